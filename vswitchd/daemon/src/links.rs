//! The machine's devices, as far as this daemon waits for them: an interface whose device was missing is tried again when one of its name
//! appears. (Devices that the datapath has open are followed by the datapath.)
//!
//! To try may itself be something that the kernel tells of the device. So what is told of one name again is acted upon a second later.

use port::netlink::{Event, Monitor, TOLD_MAX};
use std::collections::BTreeMap;
use std::io;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep_until};

/// Between two attempts that were caused by one name, and between two subscriptions.
const PAUSE: Duration = Duration::from_secs(1);
/// The name by which losses are known: any device may be meant.
const ANY: &str = "";

/// A subscription to the kernel's link events. One that is refused, or ends, is asked for again.
#[derive(Debug)]
pub struct Links {
    monitor: Option<AsyncFd<Monitor>>,
    /// When the next subscription may be asked for.
    listen_at: Instant,
    pace: Pace,
}

impl Links {
    /// Subscribes; on the runtime.
    pub fn follow() -> Self {
        let monitor = subscribe().inspect_err(|error| tracing::info!(target: "netlink_notifier", "no link events: {error}")).ok();
        Self { monitor, listen_at: Instant::now() + PAUSE, pace: Pace::default() }
    }

    /// Returns when a device appeared or changed (or everything may have) that `wanted` says yes to.
    pub async fn one_of_these_appeared(&mut self, wanted: impl Fn(&str) -> bool) {
        loop {
            let due = self.pace.due();
            // Whatever was read is noted before anything can stop us.
            let is_told = tokio::select! {
                events = self.next() => self.pace.told(names(&events, &wanted), Instant::now()),
                () = until(due) => self.pace.take(Instant::now()),
            };
            if is_told {
                return;
            }
        }
    }

    async fn next(&mut self) -> Vec<Event> {
        let Some(monitor) = &mut self.monitor else {
            sleep_until(self.listen_at).await;
            self.listen_at = Instant::now() + PAUSE;
            self.monitor =
                subscribe().inspect_err(|error| tracing::debug!(target: "netlink_notifier", "no link events: {error}")).ok();
            return self.monitor.iter().map(|_| Event::Overrun).collect();
        };
        read(monitor).await.unwrap_or_else(|error| {
            tracing::warn!(target: "netlink_notifier", "link events are lost: {error}");
            self.monitor = None;
            Vec::new()
        })
    }
}

#[allow(deprecated, reason = "what it asks of the descriptor holds: the monitor has the same one as long as it lives")]
fn subscribe() -> io::Result<AsyncFd<Monitor>> {
    Monitor::links().and_then(|monitor| AsyncFd::with_interest(monitor, Interest::READABLE))
}

async fn read(monitor: &mut AsyncFd<Monitor>) -> io::Result<Vec<Event>> {
    let mut ready = monitor.readable_mut().await?;
    let events = ready.get_inner_mut().events()?;
    if events.len() < TOLD_MAX {
        ready.clear_ready();
    }
    Ok(events)
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// The names of devices that appeared or changed and are wanted.
fn names(events: &[Event], wanted: impl Fn(&str) -> bool) -> impl Iterator<Item = &str> {
    events.iter().filter_map(move |event| match event {
        Event::Link(link) => Some(link.name.as_str()).filter(|name| wanted(name)),
        Event::Overrun => Some(ANY),
        Event::LinkGone { .. }
        | Event::Address(_)
        | Event::AddressGone(_)
        | Event::Route(_)
        | Event::RouteGone(_)
        | Event::Rule(_)
        | Event::RuleGone(_) => None,
    })
}

/// What a name caused of late.
#[derive(Debug)]
struct Last {
    at: Instant,
    /// It was told of since.
    again: bool,
}

/// Lets each name cause an attempt at once, and then one a second. An attempt is one for all names.
#[derive(Debug, Default)]
struct Pace(BTreeMap<String, Last>);

impl Pace {
    /// Some names are told of; whether they are to be tried now.
    fn told<'n>(&mut self, names: impl Iterator<Item = &'n str>, now: Instant) -> bool {
        let mut is_new = false;
        for name in names {
            match self.0.get_mut(name).filter(|last| now < last.at + PAUSE) {
                Some(last) => last.again = true,
                None => {
                    self.0.insert(name.to_owned(), Last { at: now, again: false });
                    is_new = true;
                }
            }
        }
        if is_new {
            self.tried(now);
        }
        is_new
    }

    /// When something that was told of again is to be tried.
    fn due(&self) -> Option<Instant> {
        self.0.values().filter(|last| last.again).map(|last| last.at + PAUSE).min()
    }

    /// Whether that is now.
    fn take(&mut self, now: Instant) -> bool {
        let is_due = self.due().is_some_and(|due| due <= now);
        if is_due {
            self.tried(now);
        }
        is_due
    }

    fn tried(&mut self, now: Instant) {
        self.0.retain(|_, last| last.again || now < last.at + PAUSE);
        for last in self.0.values_mut().filter(|last| last.again) {
            *last = Last { at: now, again: false };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_tried_at_once_and_then_once_a_second() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        assert!(pace.told(["a"].into_iter(), at(0)));
        assert_eq!(pace.due(), None);
        for ms in 1..900 {
            assert!(!pace.told(["a"].into_iter(), at(ms)) && !pace.take(at(ms)));
        }
        assert_eq!(pace.due(), Some(at(1000)));
        assert!(!pace.take(at(999)) && pace.take(at(1000)));
        assert_eq!(pace.due(), None);
        assert!(!pace.told(["a"].into_iter(), at(1001)), "what the attempt itself has made the kernel tell");
        assert!(pace.told(["a", "b"].into_iter(), at(1100)), "another name is tried at once");
        assert_eq!(pace.due(), None, "with the one that waited");
        assert!(!pace.told(["b"].into_iter(), at(2099)));
        assert_eq!(pace.due(), Some(at(2100)));
        assert!(pace.told(["a"].into_iter(), at(2100)), "it was quiet");
        assert!(!pace.told(["b"].into_iter(), at(2101)));
        assert!(pace.take(at(3100)) && !pace.take(at(9000)));
        assert!(pace.told([ANY].into_iter(), at(9000)) && pace.0.len() == 1, "what was long ago is forgotten");
    }

    #[tokio::test]
    async fn who_heard_nothing_for_a_while_tries_everything() {
        let mut links = Links { monitor: None, listen_at: Instant::now(), pace: Pace::default() };
        links.one_of_these_appeared(|_| false).await;
        assert!(links.monitor.is_some());
    }
}
