//! `everstep cert deny` and `everstep cert denied`: certificates that open nothing any more.

use std::sync::Arc;
use std::time::Duration;

use everstep_actors::clock::wall_ms;
use everstep_actors::desk::order::{Answer, Order};
use everstep_actors::event::{Event, Recorded};
use everstep_actors::net::tls::{Denied, Identity, KeyName, Role};
use everstep_actors::protocol::record::EpochRecord;
use everstep_actors::roles::denials::{self, Denial};
use everstep_actors::roles::log;
use everstep_actors::store::{Store, StoreError};

use super::{authority, config};
use crate::cli::desk::{At, DenyArgs, NodeRef, Nothing};
use crate::cli::{ExitCode, Failure};
use crate::commands::{orders, output};
use crate::desk::client::Desk;
use crate::views::human;

/// How often who gives certificates looks into the list.
const READ_EVERY: Duration = Duration::from_secs(2);
/// The certificate that proves who wrote the list while nobody led.
const CERTIFICATE_FOR: Duration = Duration::from_secs(3_600);

/// Tells the leader, or writes it down where nobody leads: the next leader reads it within seconds.
///
/// # Errors
/// There is no such certificate or run, or neither leader nor store takes the order.
pub(super) async fn deny(args: &At<DenyArgs>) -> Result<ExitCode, Failure> {
    let desk = Desk::open(args.at.way(), Role::Admin).await?;
    let record = desk.record().await?;
    let key = key(&record, &args.what.key)?;
    let order = Order::Deny { key: key.digits().to_owned() };
    let told = match record.leading() {
        Some(leader) if desk.is_led(&record).await => Some(desk.order(leader, &record, &order).await),
        _ => None,
    };
    desk.close().await;
    match told {
        Some(Err(failure)) if failure.code != ExitCode::Unreachable || args.at.certificate.is_some() => Err(failure),
        Some(Ok((name, Answer::Refused { because }))) => Err(Failure::new(ExitCode::Refused, format!("{name} refuses: {because}"))),
        Some(Ok((name, Answer::Done { what }))) => output::print(&format!("{name}: {what}")).map(|()| ExitCode::Done),
        Some(Err(_)) | None => write_down(args, &key).await,
    }
}

fn key(record: &EpochRecord, name: &str) -> Result<KeyName, Failure> {
    if let Some(key) = KeyName::parse(name) {
        return Ok(key);
    }
    let member = orders::find(record, &NodeRef { node: name.to_owned() });
    member.map(|member| KeyName::of(member.node)).map_err(|failure| {
        let remedy = "give the id that `cert issue` and events show, 8 digits of it or more, or the rank of a member";
        Failure::new(failure.code, format!("{name:?} is no certificate: {remedy}"))
    })
}

/// Who holds the authority may do so: nobody else could make the certificate that the event names.
async fn write_down(args: &At<DenyArgs>, key: &KeyName) -> Result<ExitCode, Failure> {
    let (ca, _) = authority(&args.at)?;
    let me = Identity::issue(&ca, Role::Admin, CERTIFICATE_FOR).map_err(config)?.id();
    let (by, at_ms) = (format!("admin {me}"), wall_ms());
    let store = Store::open(&args.at.run)?;
    denials::write(&store, key, &Denial { by: by.clone(), at_ms }).await?;
    let answer = "written down while nobody led: every leader keeps it out from now on".to_owned();
    let event = Event::Ordered { by, node: me, order: format!("deny {key}"), answer };
    log::note(&store, &Recorded { at_ms, recorded_by: me, event }).await?;
    output::print(&format!("{key} is denied: nobody leads now, and every leader from now on keeps it out"))?;
    Ok(ExitCode::Done)
}

/// Lists what is denied.
///
/// # Errors
/// There is no such run, or its store cannot be read.
pub(super) async fn denied(args: &At<Nothing>) -> Result<ExitCode, Failure> {
    let store = Store::open_existing(&args.at.run)?;
    for (key, denial) in denials::told(&store).await? {
        let (at, by) = denial.map_or_else(|| ("-".to_owned(), "-".to_owned()), |denial| (human::date(denial.at_ms), denial.by));
        output::print(&format!("{key}  {at}  by {by}"))?;
    }
    Ok(ExitCode::Done)
}

/// The denied keys, read anew until the future is dropped; a run that has no store yet has none.
pub(super) async fn keep_reading(run: &str, denied: &Arc<Denied>) {
    loop {
        if let Err(error) = read(run, denied).await {
            super::say(&format!("warning: the list of denied certificates cannot be read ({error}); what was known of it holds"));
        }
        tokio::time::sleep(READ_EVERY).await;
    }
}

/// Reads the list once.
///
/// # Errors
/// The store cannot be read.
pub(super) async fn read(run: &str, denied: &Denied) -> Result<(), StoreError> {
    let keys = match Store::open_existing(run) {
        Ok(store) => denials::read(&store).await?,
        Err(StoreError::NotFound { .. }) => Vec::new(),
        Err(error) => return Err(error),
    };
    denied.add(keys);
    Ok(())
}
