//! What a translation tells while it runs, for `ofproto/trace`: a tree of bridges, tables, actions and remarks.
//!
//! Without a `Trace` nothing is formatted. How actions and rules read as text is the caller's.

use crate::rule::Rule;
use flow::Key;
use flow::matching::Match;
use openflow::action::{NatAction, OfAction};

/// What a node says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Bridge,
    Table,
    Bucket,
    Thaw,
    Action,
    Detail,
    Warn,
    Error,
}

impl Kind {
    /// Whether such a node never has a sibling that continues it (decides the indentation).
    fn is_terminal(self) -> bool {
        match self {
            Self::Action | Self::Detail | Self::Warn | Self::Error | Self::Bucket => true,
            Self::Bridge | Self::Table | Self::Thaw => false,
        }
    }
}

#[derive(Debug)]
struct Node {
    kind: Kind,
    text: String,
    below: Vec<usize>,
}

/// A copy of the packet that goes on after conntrack.
#[derive(Clone, Debug)]
pub struct Forked {
    /// As the pipeline saw it, with `recirc_id` and zone.
    pub key: Box<Key>,
    pub recirc_id: u32,
    pub nat: Option<NatAction>,
}

/// Writes actions.
pub type ActionText = Box<dyn Fn(&[OfAction]) -> String>;
/// Writes a rule.
pub type RuleText = Box<dyn Fn(&Rule, &Match) -> String>;

/// The tree; node 0 is its root.
pub struct Trace {
    nodes: Vec<Node>,
    at: usize,
    /// Text of actions.
    pub action_text: ActionText,
    /// Text of a rule's match, priority and cookie.
    pub rule_text: RuleText,
    /// Text of a rule's priority and match.
    pub match_text: RuleText,
    /// What recirculates, in order.
    pub forked: Vec<Forked>,
    /// The packet at the end of the pipeline.
    pub final_key: Box<Key>,
}

impl std::fmt::Debug for Trace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text())
    }
}

impl Trace {
    /// An empty tree.
    #[must_use]
    pub fn new(action_text: ActionText, rule_text: RuleText, match_text: RuleText) -> Self {
        let root = Node { kind: Kind::Bridge, text: String::new(), below: Vec::new() };
        Self { nodes: vec![root], at: 0, action_text, rule_text, match_text, forked: Vec::new(), final_key: Box::default() }
    }

    /// Adds a node below the current one.
    pub fn add(&mut self, kind: Kind, text: String) -> usize {
        let id = self.nodes.len();
        self.nodes.push(Node { kind, text, below: Vec::new() });
        self.nodes[self.at].below.push(id);
        id
    }

    /// Makes a node the current one; gives the one before.
    pub fn enter(&mut self, node: usize) -> usize {
        std::mem::replace(&mut self.at, node)
    }

    /// The tree as text, in OVS's layout.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        self.print(0, 0, &mut out);
        out
    }

    fn print(&self, parent: usize, level: usize, out: &mut String) {
        use std::fmt::Write;
        let below = &self.nodes[parent].below;
        for (i, id) in below.iter().enumerate() {
            let node = &self.nodes[*id];
            if node.kind == Kind::Bridge {
                out.push('\n');
            }
            let more = usize::from(i + 1 < below.len() || node.kind.is_terminal());
            let indent = " ".repeat((level + more) * 4);
            let text = &node.text;
            let written = match node.kind {
                Kind::Detail => writeln!(out, "{indent} -> {text}"),
                Kind::Warn => writeln!(out, "{indent} >> {text}"),
                Kind::Error => writeln!(out, "{indent} >>>> {text} <<<<"),
                Kind::Bridge => writeln!(out, "{indent}{text}\n{indent}{}", "-".repeat(text.len())),
                Kind::Table | Kind::Bucket | Kind::Thaw | Kind::Action => writeln!(out, "{indent}{text}"),
            };
            written.expect("writing to a string cannot fail");
            self.print(*id, level + 2 * more, out);
        }
    }
}
