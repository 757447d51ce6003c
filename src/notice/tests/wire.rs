//! The same over TCP, by the room's own entrances.

use serde_json::json;
use tokio::net::TcpListener;

use super::clouds::{AzureVm, Ec2};
use super::fake::at;
use super::*;
use crate::config::MetadataUrls;

/// Serves the cloud on a port of this machine until the returned tasks are dropped; its base URL.
async fn serve<C: Cloud>(net: Arc<Net<C>>, tasks: &mut tokio::task::JoinSet<()>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tasks.spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            net.serve(stream).await.unwrap_or_default();
        }
    });
    url
}

/// Both clouds on ports of their own, through `watch` and `approve`.
#[tokio::test]
async fn notices_come_over_tcp_from_configured_addresses() {
    let mut tasks = tokio::task::JoinSet::new();
    let (ec2, azure) = (Net::new(Ec2::default()), Net::new(AzureVm::new(Duration::ZERO)));
    let base_url = MetadataUrls {
        aws: serve(ec2.clone(), &mut tasks).await,
        azure: serve(azure.clone(), &mut tasks).await,
        ..MetadataUrls::default()
    };
    let section = Preemption { poll: 0.1, base_url, azure_approve: true, ..section(&["aws", "azure"]) };
    let mut notices = watch(&section);
    ec2.cloud.act("terminate", at(3600));
    let (kind, deadline) = preempted(&mut notices, 60).await;
    assert_eq!(kind, Kind::Terminate);
    assert!(deadline.is_some_and(|left| (seconds(3500)..seconds(3600)).contains(&left)), "{deadline:?}");
    let event = json!({"EventId": "A", "EventType": "Preempt", "EventStatus": "Scheduled", "Resources": ["worker_1"], "NotBefore": ""});
    azure.cloud.set(&[event]);
    assert_eq!(approve(&section).await, Ok(1));
    assert_eq!(preempted(&mut notices, 60).await, (Kind::Terminate, Some(Duration::ZERO)));
    azure.cloud.set(&[]);
    ec2.cloud.set(|state| state.action = None);
    cancelled(&mut notices, 60).await;
}
