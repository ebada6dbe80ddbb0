//! The machine's devices, as far as this daemon waits for them: an interface whose device was missing is tried again when one of its name
//! appears. (Devices that the datapath has open are followed by the datapath.)

use port::netlink::{Event, Monitor};

/// A subscription to the kernel's link events, made when first asked.
#[derive(Debug, Default)]
pub struct Links {
    monitor: Option<Monitor>,
    refused: bool,
}

impl Links {
    /// Whether a device appeared (or everything may have changed) that `wanted` says yes to.
    pub fn any_of_these_appeared(&mut self, wanted: impl Fn(&str) -> bool) -> bool {
        if self.monitor.is_none() && !self.refused {
            match Monitor::new() {
                Ok(monitor) => self.monitor = Some(monitor),
                Err(error) => {
                    self.refused = true;
                    tracing::info!(target: "netlink_notifier", "no link events: {error}");
                }
            }
        }
        let events = self.monitor.as_mut().and_then(|m| m.events().ok()).unwrap_or_default();
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
}
