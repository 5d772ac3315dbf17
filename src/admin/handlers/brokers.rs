//! The cluster's brokers: who there is, who gives its replicas away, who goes.

use serde_json::json;

use super::super::answer::{self, Answer, Refusal};
use super::super::call::{Call, RequestBody};
use super::super::control::{AdminError, Control};
use super::super::remote;
use super::super::routes::OnBroker;
use super::super::views::BrokerView;

pub(super) async fn answer<C: Control, B: RequestBody>(
    control: &C,
    operation: OnBroker,
    call: &Call<'_, B>,
) -> Result<Answer, Refusal> {
    match operation {
        OnBroker::Cluster => Ok(answer::ok(&control.cluster())),
        OnBroker::List => Ok(answer::ok(&json!({ "brokers": asked(control.brokers()).await }))),
        OnBroker::Describe => {
            let id = call.path.broker()?;
            let mut found = control.brokers();
            found.retain(|broker| broker.id == id);
            let found = asked(found).await.pop().ok_or(AdminError::UnknownBroker(id))?;
            Ok(answer::ok(&found))
        }
        OnBroker::Drain | OnBroker::Keep => {
            control.drain(call.path.broker()?, operation == OnBroker::Drain).await?;
            Ok(answer::done())
        }
        OnBroker::Remove => {
            control.remove_broker(call.path.broker()?).await?;
            Ok(answer::done())
        }
    }
}

/// Brokers, and whether they answer within a second.
async fn asked(mut brokers: Vec<BrokerView>) -> Vec<BrokerView> {
    let mut checks = tokio::task::JoinSet::new();
    for (place, broker) in brokers.iter().enumerate().filter(|(_, broker)| !broker.reachable) {
        let address = broker.http.clone();
        checks.spawn(async move { (place, remote::is_live(&address).await) });
    }
    while let Some(Ok((place, reachable))) = checks.join_next().await {
        brokers[place].reachable = reachable;
    }
    brokers
}
