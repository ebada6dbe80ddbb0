//! The machine's devices, as far as this daemon waits for them: an interface whose device was missing is tried again when one of its name
//! appears. (Devices that the datapath has open are followed by the datapath.)

use port::netlink::{Event, Monitor, TOLD_MAX};
use std::io;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A subscription to the kernel's link events; without one, nothing is ever told.
#[derive(Debug)]
pub struct Links(Option<AsyncFd<Monitor>>);

impl Links {
    /// Subscribes; on the runtime.
    #[allow(deprecated, reason = "what it asks of the descriptor holds: the monitor has the same one as long as it lives")]
    pub fn follow() -> Self {
        let followed = Monitor::links().and_then(|monitor| AsyncFd::with_interest(monitor, Interest::READABLE));
        Self(followed.inspect_err(|error| tracing::info!(target: "netlink_notifier", "no link events: {error}")).ok())
    }

    /// Returns when a device appeared or changed (or everything may have) that `wanted` says yes to.
    pub async fn one_of_these_appeared(&mut self, wanted: impl Fn(&str) -> bool) {
        loop {
            match self.next().await {
                Ok(events) if is_told(&events, &wanted) => return,
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(target: "netlink_notifier", "no more link events: {error}");
                    self.0 = None;
                    return;
                }
            }
        }
    }

    async fn next(&mut self) -> io::Result<Vec<Event>> {
        let Some(monitor) = &mut self.0 else { return std::future::pending().await };
        let mut ready = monitor.readable_mut().await?;
        let events = ready.get_inner_mut().events()?;
        if events.len() < TOLD_MAX {
            ready.clear_ready();
        }
        Ok(events)
    }
}

fn is_told(events: &[Event], wanted: impl Fn(&str) -> bool) -> bool {
    events.iter().any(|event| match event {
        Event::Link(link) => wanted(&link.name),
        Event::Overrun => true,
        Event::LinkGone { .. }
        | Event::Address(_)
        | Event::AddressGone(_)
        | Event::Route(_)
        | Event::RouteGone(_)
        | Event::Rule(_)
        | Event::RuleGone(_) => false,
    })
}
