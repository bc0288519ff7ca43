//! The description of the API (OpenAPI 3.1), made of the table of routes.

use std::sync::{Arc, OnceLock};

use http::StatusCode;
use hyper::body::Bytes;
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use sendoff::Guid;
use serde_json::{Map, Value, json};

use super::{
    Answered, Api, Call, respond,
    routes::{Content, Parameter, ROUTES, Route, Tag},
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
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/", "description": "The daemon that gave this description." }],
        "tags": Tag::ALL.map(|tag| json!({ "name": tag.name(), "description": tag.about() })),
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {
                "TargetTooLong": { "description": "The path and query are longer than 65,534 bytes. There is no body." },
                "HeadTooLarge": { "description": "The head is longer than 64 KiB or has more than 100 headers. There is no body." },
            },
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
        "tags": [route.tag().name()],
        "summary": route.summary,
        "parameters": parameters(route, requests),
        "responses": responses(route, answers),
    });
    let access = match route.scope {
        Some(scope) => format!("Needs the scope `{}`.", scope.as_str()),
        None => "Needs no token.".to_owned(),
    };
    let separator = if route.about.is_empty() { "" } else { " " };
    operation["description"] = format!("{}{separator}{access}", route.about).into();
    operation["security"] = route.scope.map_or(json!([]), |scope| json!([{ "token": [scope.as_str()] }]));
    if !route.body.is_empty() {
        let mut content = Map::new();
        route.body.iter().for_each(|body| describe_content(&mut content, body, requests));
        operation["requestBody"] = json!({ "required": !route.body_optional, "content": content });
    }
    operation
}

fn parameters(route: &Route, generator: &mut SchemaGenerator) -> Value {
    let path = route.part_name().map(|name| {
        let schema = match name {
            "guid" => Guid::json_schema(generator),
            "name" if route.checks_queue() => schema::queue(generator),
            _ => schema::text(generator),
        };
        json!({ "name": name, "in": "path", "required": true, "schema": schema })
    });
    let mut one = |place: &str, parameter: &Parameter| {
        json!({
            "name": parameter.name,
            "in": place,
            "description": parameter.about,
            "schema": (parameter.schema)(generator),
        })
    };
    let mut all: Vec<Value> = path.into_iter().collect();
    all.extend(route.query.iter().map(|parameter| one("query", parameter)));
    all.extend(route.headers.iter().map(|parameter| one("header", parameter)));
    all.into()
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
    for (status, name) in [("414", "TargetTooLong"), ("431", "HeadTooLarge")] {
        responses.insert(status.to_owned(), json!({ "$ref": format!("#/components/responses/{name}") }));
    }
    for (status, header, about) in HEADERS {
        if let Some(response) = responses.get_mut(*status) {
            let header_of = json!({ *header: { "description": about, "schema": { "type": "string" } } });
            response["headers"] = header_of;
        }
    }
    if route.id == "submit" {
        for status in ["200", "201"] {
            responses[status]["links"] = links();
        }
    }
    Value::Object(responses)
}

/// What an answer with this status says in a header.
const HEADERS: &[(&str, &str, &str)] = &[
    ("201", "Location", "The job's path."),
    ("401", "WWW-Authenticate", "`Bearer`."),
    ("503", "Retry-After", "Seconds, where trying again will help."),
];

/// Where a job that was submitted can be followed.
fn links() -> Value {
    let calls = ROUTES.iter().filter(|route| route.part_name() == Some("guid"));
    let links = calls.map(|route| {
        let link = json!({ "operationId": route.id, "parameters": { "guid": "$response.body#/guid" } });
        (route.id.to_owned(), link)
    });
    Value::Object(links.collect())
}

fn describe_content(content: &mut Map<String, Value>, body: &Content, generator: &mut SchemaGenerator) {
    let schema = (body.schema)(generator);
    content.insert(body.media.to_owned(), json!({ "schema": schema }));
}
