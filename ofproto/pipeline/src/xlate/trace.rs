//! What a translation tells while it runs, for `ofproto/trace`: a tree of bridges, tables, actions and remarks.
//!
//! Without a `Trace` nothing is formatted. How actions and rules read as text is the caller's.

use crate::rule::Rule;
use openflow::action::OfAction;

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

/// The tree; node 0 is its root.
#[derive(Debug)]
pub struct Trace {
    nodes: Vec<Node>,
    at: usize,
    /// Text of an action.
    pub action_text: fn(&OfAction) -> String,
    /// Text of a rule's match and priority.
    pub rule_text: fn(&Rule) -> String,
}

impl Trace {
    /// An empty tree.
    #[must_use]
    pub fn new(action_text: fn(&OfAction) -> String, rule_text: fn(&Rule) -> String) -> Self {
        let root = Node { kind: Kind::Bridge, text: String::new(), below: Vec::new() };
        Self { nodes: vec![root], at: 0, action_text, rule_text }
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
