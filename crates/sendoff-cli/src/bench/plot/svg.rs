//! The few elements of SVG that a picture needs.

use std::fmt::Write as _;

const STYLE: &str = "text{font:12px system-ui,sans-serif;fill:#24292f}
.title{font-size:20px;font-weight:600}.head{font-size:14px;font-weight:600}
.note,.tick{fill:#57606a}.tick{font-size:10px}.end{text-anchor:end}.middle{text-anchor:middle}
.met{fill:#1a7f37}.missed{fill:#cf222e}
rect.raw0{fill:#8c959f}rect.raw1{fill:#c0c6cd}rect.ours0{fill:#0969da}rect.ours1{fill:#54aeff}
polyline{fill:none;stroke-width:1.8}
.raw0{stroke:#8c959f}.raw1{stroke:#c0c6cd}.ours0{stroke:#0969da}.ours1{stroke:#54aeff}
.rule{stroke:#d0d7de}.grid{stroke:#eaeef2}.range{stroke:#24292f;stroke-width:1.2}";

pub(super) struct Svg(String);

impl Svg {
    pub(super) fn new() -> Self {
        Self(String::new())
    }

    pub(super) fn text(&mut self, x: f64, y: f64, class: &str, text: &str) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let _ = writeln!(self.0, r#"<text x="{x:.1}" y="{y:.1}" class="{class}">{text}</text>"#);
    }

    pub(super) fn rect(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), class: &str) {
        let _ = writeln!(
            self.0,
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" class="{class}"/>"#
        );
    }

    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), class: &str) {
        let ((x1, y1), (x2, y2)) = (from, to);
        let _ = writeln!(
            self.0,
            r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" class="{class}"/>"#
        );
    }

    pub(super) fn polyline(&mut self, points: impl IntoIterator<Item = (f64, f64)>, class: &str) {
        let points: Vec<_> = points.into_iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(self.0, r#"<polyline points="{}" class="{class}"/>"#, points.join(" "));
    }

    pub(super) fn finish(self, width: f64, height: f64) -> String {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" viewBox=\"0 0 \
             {width:.0} {height:.0}\">\n<style>{STYLE}</style>\n<rect width=\"100%\" height=\"100%\" \
             fill=\"#ffffff\"/>\n{}</svg>\n",
            self.0
        )
    }
}
