//! The description of the API (OpenAPI 3.1), made of the table of routes.

use std::sync::{Arc, OnceLock};

use http::StatusCode;
use hyper::body::Bytes;
use schemars::{SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::{
    Answered, Api, Call, respond,
    routes::{self, Content, Parameter, ROUTES, Route},
    schema,
};

pub(crate) async fn show(_: Arc<Api>, _: Call) -> Answered {
    static TEXT: OnceLock<Bytes> = OnceLock::new();
    let text = TEXT.get_or_init(|| format!("{:#}\n", describe()).into());
    Ok(respond(StatusCode::OK, "application/json", text.clone()))
}

/// The whole description.
pub(crate) fn describe() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut answers = settings.clone().for_serialize().into_generator();
    // What is read and what is written differ in what may be left out: no schema is shared by both.
    let inline = settings.with(|settings| settings.inline_subschemas = true);
    let mut requests = inline.for_deserialize().into_generator();
    let mut paths: Map<String, Value> = Map::new();
    for route in ROUTES {
        let path = paths.entry(route.pattern).or_insert_with(|| json!({}));
        path[route.method.as_str().to_ascii_lowercase()] = operation(route, &mut requests, &mut answers);
    }
    let mut schemas = answers.take_definitions(true);
    schemas.insert("Problem".to_owned(), schema::problem().to_value());
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "sendoff",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Submit jobs, watch and cancel their starts. Every GET may be a HEAD. Unknown query parameters and unknown fields are refused. A verb stands after the last colon of a path; a queue whose name ends like one is written with %3A.",
            "license": { "name": "MIT OR Apache-2.0" },
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token of `sendoff token create`. On the unix socket the caller's user id stands in.",
                },
            },
        },
    })
}

fn operation(route: &Route, requests: &mut SchemaGenerator, answers: &mut SchemaGenerator) -> Value {
    let mut operation = json!({
        "operationId": route.id,
        "summary": route.summary,
        "parameters": parameters(route),
        "responses": responses(route, answers),
    });
    if !route.about.is_empty() {
        operation["description"] = route.about.into();
    }
    if let Some(scope) = route.scope {
        operation["security"] = json!([{ "token": [] }]);
        operation["x-scope"] = routes::scope_name(scope).into();
    }
    if !route.body.is_empty() {
        let mut content = Map::new();
        route.body.iter().for_each(|body| describe_content(&mut content, body, requests));
        operation["requestBody"] = json!({ "required": !route.body_optional, "content": content });
    }
    operation
}

fn parameters(route: &Route) -> Value {
    let one = |place: &'static str| {
        move |parameter: &Parameter| {
            json!({
                "name": parameter.name,
                "in": place,
                "description": parameter.about,
                "schema": (parameter.schema)(),
            })
        }
    };
    let path = route.part_name().map(|name| {
        let schema = match name {
            "guid" => json!({ "type": "string", "format": "uuid" }),
            _ => json!({ "type": "string" }),
        };
        json!({ "name": name, "in": "path", "required": true, "schema": schema })
    });
    let query = route.query.iter().map(one("query"));
    let headers = route.headers.iter().map(one("header"));
    path.into_iter().chain(query).chain(headers).collect()
}

fn responses(route: &Route, answers: &mut SchemaGenerator) -> Value {
    let mut responses: Map<String, Value> = Map::new();
    for (status, about, body) in route.answers {
        let response = responses
            .entry(status.to_string())
            .or_insert_with(|| json!({ "description": about, "content": {} }));
        if let Some(content) = response["content"].as_object_mut() {
            describe_content(content, body, answers);
        }
    }
    for kind in route.kinds() {
        let response = responses.entry(kind.status.as_u16().to_string()).or_insert_with(|| {
            let problem = json!({ "$ref": "#/components/schemas/Problem" });
            json!({
                "description": "",
                "content": { "application/problem+json": { "schema": problem } },
            })
        });
        let about = response["description"].as_str().unwrap_or("");
        let separator = if about.is_empty() { "" } else { " " };
        response["description"] = format!("{about}{separator}`{}`: {}.", kind.name, kind.title).into();
    }
    Value::Object(responses)
}

fn describe_content(content: &mut Map<String, Value>, body: &Content, generator: &mut SchemaGenerator) {
    let schema = (body.schema)(generator);
    content.insert(body.media.to_owned(), json!({ "schema": schema }));
}
