//! Nodes that are stopped in order under load, and nodes that serve some queues only.

use std::sync::atomic::Ordering;

use serde_json::json;

use super::{
    fleet::{Incidents, ordeal},
    nodes::{Node, three},
    records::records,
    until,
};

#[test]
fn nodes_are_restarted_one_after_the_other_and_nothing_is_in_doubt() {
    if !testpg::wanted() {
        return;
    }
    let url = testpg::shared().new_database().unwrap();
    let nodes = three([&url, &url, &url]);
    let verdict = ordeal(&nodes, 1_000, false, |load, _| {
        for (number, node) in nodes.iter().enumerate() {
            until("some jobs", || load.acknowledged.load(Ordering::Relaxed) >= 150 * (number + 1));
            let name = node.name();
            assert_eq!(node.end(), Some(0));
            let mut other = nodes[(number + 1) % 3].caller();
            let (_, left) = other.ask("GET", "/v1/nodes", "").unwrap();
            assert!(!left.to_string().contains(&name), "{left}");
            let seen = records(&mut other);
            let left = seen.values().filter(|record| record.state == "starting");
            assert_eq!(left.filter(|record| record.node.as_ref() == Some(&name)).count(), 0);
            node.again();
        }
        Incidents::default()
    });
    assert_eq!((verdict.doubled, verdict.unknown), (0, 0));
    nodes.iter().for_each(Node::check);
    println!("{verdict}");
}

#[test]
fn a_node_starts_the_jobs_of_its_queues_only() {
    if !testpg::wanted() {
        return;
    }
    let url = testpg::shared().new_database().unwrap();
    let [gpu, both] =
        [&["--queues", "gpu"][..], &["--queues", "mail,default"]].map(|flags| Node::start(&url, flags));
    let submit = |node: &Node, queue: &str| {
        let job = json!({"start": {"simulated": {"delay": "1ms"}}, "queue": queue}).to_string();
        let (status, record) = node.caller().ask("POST", "/v1/jobs", &job).unwrap();
        assert_eq!(status, 201, "{record}");
        record["guid"].as_str().unwrap().to_owned()
    };
    let ended = |node: &Node, guid: &str| {
        let (_, record) = node.caller().ask("GET", &format!("/v1/jobs/{guid}?wait=60s"), "").unwrap();
        (record["state"].clone(), record["node"].clone())
    };
    let nobodys = submit(&gpu, "nobody");
    let mut submitted = Vec::new();
    for _ in 0..20 {
        for (queue, node) in [("gpu", &gpu), ("mail", &both), ("default", &both)] {
            submitted.extend([&gpu, &both].map(|by| (submit(by, queue), node)));
        }
    }
    for (guid, node) in submitted {
        assert_eq!(ended(node, &guid), ("started".into(), node.name().into()));
    }
    let (_, record) = both.caller().ask("GET", &format!("/v1/jobs/{nobodys}"), "").unwrap();
    assert_eq!((&record["state"], &record["attempt"]), (&"pending".into(), &0.into()));
    let somebody = Node::start(&url, &["--queues", "nobody"]);
    assert_eq!(ended(&both, &nobodys), ("started".into(), somebody.name().into()));
    [gpu, both, somebody].iter().for_each(Node::check);
}
