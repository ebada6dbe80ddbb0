//! Who answers the offload tier's netlink: the kernel, the eSwitch model, or nobody. It can be exchanged while the tier lives.
//!
//! What enters: requests; which one it is to be. What leaves: answers. Neighbours: `port::netlink::raw`, `eswitch_model` (its socket).

use crate::eswitch_model;
use offload::tc::client::Netlink;
use port::netlink::raw::Raw;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// Which one, as `other_config:offload-backend` says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// `tc`: the kernel.
    #[default]
    Tc,
    /// `model:PATH`: the program `ferrule eswitch-model` that listens there.
    Model(PathBuf),
}

impl Choice {
    /// Reads it; `None` for what names no back end.
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once(':') {
            None if text.is_empty() || text == "tc" => Some(Self::Tc),
            Some(("model", path)) if !path.is_empty() => Some(Self::Model(path.into())),
            _ => None,
        }
    }
}

/// The one of now.
#[derive(Debug, Default)]
pub struct Backend {
    now: RwLock<Option<Arc<dyn Netlink>>>,
}

impl Backend {
    /// Takes another.
    ///
    /// # Errors
    /// The kernel's, if it gives no socket. The model is connected when it is first needed.
    pub fn choose(&self, choice: &Choice) -> io::Result<()> {
        let new: Arc<dyn Netlink> = match choice {
            Choice::Tc => Arc::new(Kernel(Raw::new()?)),
            Choice::Model(path) => Arc::new(Model { path: path.clone(), link: Mutex::default() }),
        };
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = Some(new);
        Ok(())
    }
}

impl Netlink for Backend {
    fn talk(&self, requests: &[u8]) -> io::Result<Vec<u8>> {
        let now = self.now.read().unwrap_or_else(PoisonError::into_inner).clone();
        now.ok_or(io::ErrorKind::NotConnected)?.talk(requests)
    }
}

#[derive(Debug)]
struct Kernel(Raw);

impl Netlink for Kernel {
    fn talk(&self, requests: &[u8]) -> io::Result<Vec<u8>> {
        self.0.talk(requests)
    }
}

/// A model that has gone away is connected again at the next request.
#[derive(Debug)]
struct Model {
    path: PathBuf,
    link: Mutex<Option<eswitch_model::Client>>,
}

impl Netlink for Model {
    fn talk(&self, requests: &[u8]) -> io::Result<Vec<u8>> {
        let mut link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        if link.is_none() {
            *link = Some(eswitch_model::Client::connect(&self.path)?);
        }
        let answer = link.as_mut().ok_or(io::ErrorKind::NotConnected)?.talk(requests);
        if answer.is_err() {
            *link = None;
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_ends_by_name() {
        assert_eq!(Choice::parse("tc"), Some(Choice::Tc));
        assert_eq!(Choice::parse("model:/run/m"), Some(Choice::Model("/run/m".into())));
        assert_eq!(Choice::parse("model:"), None);
        assert_eq!(Choice::parse("dpdk"), None);
        assert_eq!(Backend::default().talk(&[]).unwrap_err().kind(), io::ErrorKind::NotConnected);
    }
}
