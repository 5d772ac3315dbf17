//! The requests about brokers: join, list, remove.

use lockstep_protocol::Outcome;
use lockstep_protocol::native::{
    BrokerInfo, JoinRequest, JoinResponse, ListBrokersRequest, ListBrokersResponse, RemoveBrokerRequest,
    RemoveBrokerResponse,
};

use super::connection::Context;
use super::outcome::ToOutcome;
use crate::cluster::{BrokerStatus, Duty, Newcomer};
use crate::identity::DirectoryId;

pub(super) async fn join(context: &Context, request: JoinRequest) -> Outcome<JoinResponse> {
    let JoinRequest { directory, native, peer, http, rack } = request;
    let newcomer = Newcomer { directory: DirectoryId(directory), native, peer, http, rack };
    let broker = &context.broker;
    match broker.cluster().join(&newcomer).await {
        Ok(joined) => Ok(JoinResponse {
            cluster: context.cluster.0,
            broker: joined.id,
            founders: joined.founders,
            brokers: brokers(context),
        }),
        Err(error) => Err(error.to_outcome(broker)),
    }
}

pub(super) async fn list(context: &Context, _: ListBrokersRequest) -> Outcome<ListBrokersResponse> {
    context.broker.await_current().await.map_err(|error| error.to_outcome(&context.broker))?;
    Ok(ListBrokersResponse { brokers: brokers(context) })
}

pub(super) async fn remove(context: &Context, request: RemoveBrokerRequest) -> Outcome<RemoveBrokerResponse> {
    match context.broker.cluster().remove_broker(request.broker).await {
        Ok(()) => Ok(RemoveBrokerResponse {}),
        Err(error) => Err(error.to_outcome(&context.broker)),
    }
}

fn brokers(context: &Context) -> Vec<BrokerInfo> {
    let info = |status: BrokerStatus| BrokerInfo {
        id: status.broker.id,
        directory: status.broker.directory.map(|directory| directory.0),
        native: status.broker.native,
        peer: status.broker.peer,
        http: status.broker.http,
        rack: status.broker.rack,
        draining: status.broker.duty == Duty::Draining,
        replicas: u32::try_from(status.replicas).unwrap_or(u32::MAX),
        metadata: status.metadata,
    };
    context.broker.cluster().brokers().into_iter().map(info).collect()
}
