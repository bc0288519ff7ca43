//! The HTTP starter against targets that behave, misbehave, and are not there.

mod connections;
mod outcomes;
mod policy;
mod secrets;
mod server;
mod tls;

use sendoff::{
    Delivery, Guid, Receipt,
    ports::{Attempt, Running, StartError, Starter},
    starter::{Http, HttpStarter},
};

fn attempt(payload: &Http) -> Attempt {
    let guid: Guid = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
    Attempt::for_test(guid, serde_json::value::to_raw_value(payload).unwrap(), Running::unlimited())
}

async fn start(starter: &HttpStarter, payload: &Http) -> Result<Receipt, StartError> {
    server::within(starter.start(attempt(payload))).await
}

async fn start_once(starter: &HttpStarter, payload: &Http) -> Result<Receipt, StartError> {
    let mut attempt = attempt(payload);
    attempt.delivery = Delivery::AtMostOnce;
    server::within(starter.start(attempt)).await
}
