//! Locks (RFC 7047 sections 4.1.8 to 4.1.10): per name a queue of sessions, the holder first.

use super::core::{Core, SessionId};
use crate::error::{Error, Result};
use crate::json;
use crate::message::Message;
use serde_json::{Value, json as object};

impl Core {
    pub(super) fn lock(&mut self, session: SessionId, method: &str, params: &[Value], steal: bool) -> Result<Value> {
        let name = lock_name(method, params)?;
        let queue = self.locks.entry_ref(name).or_default();
        if queue.contains(&session) {
            let text = format!("must issue \"unlock\" before new \"{method}\"");
            return Err(Error::syntax(&Value::Array(params.to_vec()), text));
        }
        let mut victim = None;
        if steal {
            // The victim keeps its claim: the next `unlock` of the thief gives the lock back.
            victim = queue.front().copied();
            queue.push_front(session);
        } else {
            queue.push_back(session);
        }
        let locked = queue.front() == Some(&session);
        if let Some(victim) = victim {
            if let Some(s) = self.sessions.get_mut(&victim) {
                s.lost.push(name.to_owned());
            }
            self.notify_lock(victim, "stolen", name);
        }
        Ok(object!({"locked": locked}))
    }

    pub(super) fn unlock(&mut self, session: SessionId, method: &str, params: &[Value]) -> Result<Value> {
        let name = lock_name(method, params)?;
        if !self.locks.get(name).is_some_and(|q| q.contains(&session)) {
            let text = "unlock: \"unlock\" without \"lock\" or \"steal\"";
            return Err(Error::syntax(&Value::Array(params.to_vec()), text));
        }
        self.release(session, name);
        Ok(object!({}))
    }

    pub(super) fn release(&mut self, session: SessionId, name: &str) {
        let Some(queue) = self.locks.get_mut(name) else {
            return;
        };
        let held = queue.front() == Some(&session);
        queue.retain(|s| *s != session);
        let next = queue.front().copied();
        if queue.is_empty() {
            self.locks.remove(name);
        }
        if let (true, Some(next)) = (held, next) {
            self.notify_lock(next, "locked", name);
        }
    }

    /// Names of the locks that a session holds, waits for, and lost, for its remote's status.
    pub(super) fn locks_of(&self, session: SessionId) -> [Vec<&str>; 3] {
        let held = |q: &std::collections::VecDeque<SessionId>| q.front() == Some(&session);
        let mine = self.locks.iter().filter(|(_, q)| q.contains(&session));
        let (mut holds, mut waits) = (Vec::new(), Vec::new());
        for (name, queue) in mine {
            if held(queue) { holds.push(name.as_str()) } else { waits.push(name.as_str()) }
        }
        let lost = self.sessions.get(&session).map_or(&[][..], |s| s.lost.as_slice());
        let mut lost: Vec<&str> = lost.iter().map(String::as_str).filter(|name| !holds.contains(name)).collect();
        lost.dedup();
        holds.sort_unstable();
        waits.sort_unstable();
        [holds, waits, lost]
    }

    pub(super) fn notify_lock(&mut self, session: SessionId, method: &str, name: &str) {
        self.send(session, &Message::Notification { method: method.to_owned(), params: vec![name.into()] });
    }
}

fn lock_name<'a>(method: &str, params: &'a [Value]) -> Result<&'a str> {
    match params {
        [Value::String(name)] if json::is_id(name) => Ok(name),
        _ => {
            let text = format!("{method} request params must be <id>");
            Err(Error::syntax(&Value::Array(params.to_vec()), text))
        }
    }
}
