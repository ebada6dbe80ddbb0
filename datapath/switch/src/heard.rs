//! What the kernel has told of devices, sorted by device, so that no port has to listen to what concerns others.
//!
//! What enters: events since the last look. What leaves: those of a device, by its index or its name. Neighbour: `ports`.

use flow::hash::{Map, Set};
use port::netlink::Event;

/// Events by device.
#[derive(Debug, Default)]
pub(crate) struct Heard<'e> {
    by_index: Map<u32, Vec<&'e Event>>,
    names: Set<&'e str>,
    /// That events were lost, which concerns every device.
    lost: Option<&'e Event>,
}

impl<'e> Heard<'e> {
    /// Sorts events.
    pub(crate) fn new(events: &'e [Event]) -> Self {
        let mut heard = Self::default();
        for event in events {
            match event {
                Event::Link(link) => {
                    heard.names.insert(&link.name);
                    heard.by_index.entry(link.ifindex).or_default().push(event);
                }
                Event::LinkGone { ifindex, .. } => heard.by_index.entry(*ifindex).or_default().push(event),
                Event::Overrun => heard.lost = Some(event),
                Event::Address(_)
                | Event::AddressGone(_)
                | Event::Route(_)
                | Event::RouteGone(_)
                | Event::Rule(_)
                | Event::RuleGone(_) => {}
            }
        }
        heard
    }

    /// Whether a device of that name is there or has changed.
    pub(crate) fn names(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// What concerns a device, in order; after everything else that events were lost, since whoever asks anew learns what is true now.
    pub(crate) fn of(&self, ifindex: u32) -> impl Iterator<Item = &'e Event> {
        self.by_index.get(&ifindex).into_iter().flatten().copied().chain(self.lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use port::netlink::Link;

    fn link(ifindex: u32, mtu: u32) -> Event {
        Event::Link(Box::new(Link { ifindex, name: format!("d{ifindex}"), mtu, ..Link::default() }))
    }

    #[test]
    fn each_device_hears_its_own_events_in_order_and_of_losses() {
        let gone = Event::LinkGone { ifindex: 7, name: "d7".into() };
        let events = [link(7, 1), Event::Overrun, link(8, 2), link(7, 3), gone.clone()];
        let heard = Heard::new(&events);
        let of = |ifindex| heard.of(ifindex).cloned().collect::<Vec<_>>();
        assert_eq!(of(7), [link(7, 1), link(7, 3), gone, Event::Overrun]);
        assert_eq!((of(8), of(9)), (vec![link(8, 2), Event::Overrun], vec![Event::Overrun]));
        assert!(heard.names("d8") && !heard.names("d9"));
    }
}
