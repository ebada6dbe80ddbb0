//! Who answers the offload tier's netlink: the kernel, the eSwitch model, or nobody. It can be exchanged while the tier lives.
//!
//! What enters: requests; which one it is to be. What leaves: answers, and what others did meanwhile. Neighbours: `port::netlink::raw`, `eswitch_model` (its socket).

use crate::eswitch_model;
use offload::tc::client::{Netlink, News};
use port::netlink::raw::{Heard, Raw, Watch};
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
            Choice::Tc => Arc::new(Kernel::new()?),
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

    fn news(&self) -> io::Result<News> {
        let now = self.now.read().unwrap_or_else(PoisonError::into_inner).clone();
        now.map_or_else(|| Ok(News::default()), |now| now.news())
    }
}

#[derive(Debug)]
struct Kernel {
    raw: Raw,
    /// Without it, what others do is found out by looking.
    watch: Mutex<Option<Watch>>,
}

impl Kernel {
    fn new() -> io::Result<Self> {
        let raw = Raw::new()?;
        let watch = Watch::beside(&raw).inspect_err(deaf).ok();
        Ok(Self { raw, watch: Mutex::new(watch) })
    }
}

fn deaf(error: &io::Error) {
    tracing::warn!(target: "dpif_offload", "the kernel does not tell what others do to rules, which are looked at twice a second: {error}");
}

impl Netlink for Kernel {
    fn talk(&self, requests: &[u8]) -> io::Result<Vec<u8>> {
        self.raw.talk(requests)
    }

    fn news(&self) -> io::Result<News> {
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        let heard = watch.as_ref().map_or_else(|| Ok(Heard::default()), Watch::heard);
        if let Err(error) = &heard {
            deaf(error);
            *watch = None;
        }
        heard.map(|Heard { bytes, overrun }| News { bytes, overrun })
    }
}

/// A model that has gone away is connected again at the next request.
#[derive(Debug)]
struct Model {
    path: PathBuf,
    link: Mutex<Option<eswitch_model::Client>>,
}

impl Netlink for Model {
    fn news(&self) -> io::Result<News> {
        let mut link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        let news = link.as_mut().map_or_else(|| Ok(News::default()), eswitch_model::Client::news);
        if news.is_err() {
            *link = None;
        }
        news
    }

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
        assert_eq!(Backend::default().news().unwrap(), News::default());
    }
}
