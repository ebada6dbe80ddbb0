//! What the kernel has told of devices, sorted by device, so that no port has to listen to what concerns others.
//!
//! What enters: events since the last look, of this network namespace and of others. What leaves: those of a device, by its place or, here, its name.
//! Neighbour: `ports`.

use flow::hash::{Map, Set};
use port::netlink::request::At;
use port::netlink::{Event, Told};

/// Events by device.
#[derive(Debug, Default)]
pub(crate) struct Heard<'e> {
    by_place: Map<At, Vec<&'e Told>>,
    names: Set<&'e str>,
    /// That events were lost, which concerns every device.
    lost: Option<&'e Told>,
}

impl<'e> Heard<'e> {
    /// Sorts events.
    pub(crate) fn new(all: &'e [Told]) -> Self {
        let mut heard = Self::default();
        for told in all {
            let (nsid, event) = told;
            let at = |ifindex: u32| At { ifindex, nsid: *nsid };
            match event {
                Event::Link(link) => {
                    if nsid.is_none() {
                        heard.names.insert(&link.name);
                    }
                    heard.by_place.entry(at(link.ifindex)).or_default().push(told);
                }
                Event::LinkGone { ifindex, .. } => heard.by_place.entry(at(*ifindex)).or_default().push(told),
                Event::Overrun => heard.lost = Some(told),
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

    /// Whether events were lost, so that nobody knows what else has changed.
    pub(crate) fn is_incomplete(&self) -> bool {
        self.lost.is_some()
    }

    /// Of which devices something is told.
    pub(crate) fn places(&self) -> impl Iterator<Item = At> {
        self.by_place.keys().copied()
    }

    /// The names of those of this namespace that are there or have changed.
    pub(crate) fn all_names(&self) -> impl Iterator<Item = &'e str> {
        self.names.iter().copied()
    }

    /// Whether a device of that name is there or has changed.
    pub(crate) fn names(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// What concerns a device, in order; after everything else that events were lost, since whoever asks anew learns what is true now.
    pub(crate) fn of(&self, place: At) -> impl Iterator<Item = &'e Told> {
        self.by_place.get(&place).into_iter().flatten().copied().chain(self.lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use port::netlink::Link;

    fn link(ifindex: u32, mtu: u32) -> Told {
        (None, Event::Link(Box::new(Link { ifindex, name: format!("d{ifindex}"), mtu, ..Link::default() })))
    }

    #[test]
    fn each_device_hears_its_own_events_in_order_and_of_losses() {
        let gone = (None, Event::LinkGone { ifindex: 7, name: "d7".into() });
        let lost = (None, Event::Overrun);
        let elsewhere = (Some(3), link(8, 9).1);
        let other = (Some(3), link(10, 1).1);
        let events = [link(7, 1), lost.clone(), link(8, 2), link(7, 3), gone.clone(), elsewhere.clone(), other];
        let heard = Heard::new(&events);
        let of = |ifindex, nsid| heard.of(At { ifindex, nsid }).cloned().collect::<Vec<_>>();
        assert_eq!(of(7, None), [link(7, 1), link(7, 3), gone, lost.clone()]);
        assert_eq!((of(8, None), of(8, Some(3))), (vec![link(8, 2), lost.clone()], vec![elsewhere, lost.clone()]));
        assert_eq!((of(9, None), of(7, Some(3))), (vec![lost.clone()], vec![lost]));
        assert!(heard.names("d8") && !heard.names("d9") && !heard.names("d10"), "a name is one of this namespace");
        let mut places: Vec<_> = heard.places().map(|at| (at.ifindex, at.nsid)).collect();
        places.sort_unstable();
        assert_eq!(places, [(7, None), (8, None), (8, Some(3)), (10, Some(3))]);
        assert!(heard.is_incomplete() && !Heard::new(&events[2..5]).is_incomplete());
    }
}
