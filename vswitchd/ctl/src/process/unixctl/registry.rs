//! The command table: rows of name, usage, argument counts and handler, gathered from the rooms that own the commands. Generic in the
//! state that handlers work on, so that the table can be tested without a switch.

use super::{Answer, JsonAnswer, Reply, Request, UNIXCTL_REFUSED};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

/// No upper bound on the number of arguments.
pub const ANY: usize = usize::MAX;
/// The command that shows the table.
const LIST: &str = "list-commands";

/// How a command runs.
#[derive(Debug)]
pub enum Run<S> {
    /// It answers at once.
    Now(fn(&mut S, &[String]) -> Answer),
    /// It keeps the `Reply` and answers when it can.
    Later(fn(&mut S, &[String], Reply)),
    /// It belongs to another room's table, which wants the name.
    Named(fn(&mut S, &str, &[String]) -> Answer),
}

/// How a command answers in JSON: the state, the command's name and its arguments.
pub type Json<S> = fn(&mut S, &str, &[String]) -> JsonAnswer;

impl<S> Clone for Run<S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for Run<S> {}

/// One row.
#[derive(Debug)]
pub struct Command<S> {
    pub name: &'static str,
    /// What `list-commands` shows after the name; `None` hides the command.
    pub usage: Option<&'static str>,
    pub min: usize,
    pub max: usize,
    pub run: Run<S>,
    /// What it says to a client that wants JSON; without it the text goes in JSON's clothes.
    pub json: Option<Json<S>>,
}

impl<S> Clone for Command<S> {
    fn clone(&self) -> Self {
        Self { name: self.name, usage: self.usage, min: self.min, max: self.max, run: self.run, json: self.json }
    }
}

impl<S> Command<S> {
    /// A row that answers at once.
    pub const fn now(
        name: &'static str,
        usage: Option<&'static str>,
        (min, max): (usize, usize),
        run: fn(&mut S, &[String]) -> Answer,
    ) -> Self {
        Self { name, usage, min, max, run: Run::Now(run), json: None }
    }

    /// A row that answers later.
    pub const fn later(
        name: &'static str,
        usage: Option<&'static str>,
        (min, max): (usize, usize),
        run: fn(&mut S, &[String], Reply),
    ) -> Self {
        Self { name, usage, min, max, run: Run::Later(run), json: None }
    }
}

/// All rows by name.
pub struct Registry<S>(BTreeMap<&'static str, Command<S>>);

impl<S> fmt::Debug for Registry<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl<S> Registry<S> {
    /// Gathers the rows of all rooms. Where two rows have one name, the later one stands.
    pub fn new(rows: impl IntoIterator<Item = Command<S>>) -> Self {
        Self(rows.into_iter().map(|row| (row.name, row)).collect())
    }

    /// The text of `list-commands`.
    pub fn list(&self) -> String {
        let mut out = String::from("The available commands are:\n");
        for (name, usage) in self.0.values().filter_map(|c| Some((c.name, c.usage?))) {
            writeln!(out, "  {name:<23} {usage}").expect("writing to a String cannot fail");
        }
        out
    }

    /// The same as JSON: usages by name.
    #[must_use]
    pub fn list_json(&self) -> Value {
        self.0.values().filter_map(|c| Some((c.name.to_owned(), Value::from(c.usage?)))).collect()
    }

    /// Answers a request. The list is the table's own affair; a row for it says that it takes no arguments.
    pub fn serve(&self, state: &mut S, request: Request) {
        let Request { method, params, reply } = request;
        if method == LIST && (params.is_empty() || !self.0.contains_key(LIST)) {
            self.send_list(reply);
        } else {
            self.dispatch(state, &method, &params, reply);
        }
    }

    fn send_list(&self, reply: Reply) {
        if reply.wants_json() { reply.send_json(Ok(self.list_json())) } else { reply.send(Ok(self.list())) }
    }

    /// Checks a request against its row and runs it.
    fn dispatch(&self, state: &mut S, method: &str, params: &[Value], reply: Reply) {
        match self.check(method, params) {
            Ok((Command { json: Some(json), .. }, args)) if reply.wants_json() => reply.send_json(json(state, method, &args)),
            Ok((command, args)) => match command.run {
                Run::Now(run) => reply.send(run(state, &args)),
                Run::Later(run) => run(state, &args, reply),
                Run::Named(run) => reply.send(run(state, method, &args)),
            },
            Err(error) => {
                UNIXCTL_REFUSED.inc();
                reply.send(Err(error));
            }
        }
    }

    fn check(&self, method: &str, params: &[Value]) -> Result<(&Command<S>, Vec<String>), String> {
        let Some(command) = self.0.get(method) else {
            return Err(format!("\"{method}\" is not a valid command (use \"list-commands\" to see a list of valid commands)"));
        };
        if params.len() < command.min {
            return Err(format!("\"{method}\" command requires at least {} arguments", command.min));
        }
        if params.len() > command.max {
            return Err(format!("\"{method}\" command takes at most {} arguments", command.max));
        }
        let args: Option<Vec<String>> = params.iter().map(|p| p.as_str().map(str::to_owned)).collect();
        match args {
            Some(args) => Ok((command, args)),
            None => Err(format!("\"{method}\" command has non-string argument")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Said;
    use super::*;
    use serde_json::json;
    use tokio::sync::oneshot;

    const ROWS: &[Command<u32>] = &[
        Command::now("echo", Some("arg [arg]"), (1, 2), |n, args| {
            *n += 1;
            Ok(args.join(" "))
        }),
        Command::now("dpctl/disable-a-long-one", Some(""), (0, 0), |_, _| Ok(String::new())),
        Command::now("hidden", None, (0, ANY), |_, _| Err("no".into())),
        Command {
            json: Some(|n, name, args| if args.is_empty() { Ok(json!({name: *n})) } else { Err("no".into()) }),
            ..Command::now("tell", Some("[x]"), (0, 1), |_, _| Ok("told".into()))
        },
    ];

    fn ask(method: &str, params: &Value, json: bool) -> Said {
        let (sender, mut receiver) = oneshot::channel();
        let params = params.as_array().unwrap();
        Registry::new(ROWS.iter().cloned()).dispatch(&mut 0, method, params, Reply { sender, json });
        receiver.try_recv().unwrap()
    }

    fn check(method: &str, params: &Value, expect: Result<&str, &str>) {
        let expect = expect.map_or_else(|e| Said::Error(e.into()), |text| Said::Text(text.into()));
        assert_eq!(ask(method, params, false), expect, "{method}");
    }

    #[test]
    fn who_wants_json_gets_it_where_there_is_some() {
        assert_eq!(ask("tell", &json!([]), true), Said::Json(json!({"tell": 0})));
        assert_eq!(ask("tell", &json!(["x"]), true), Said::Error("no".into()));
        assert_eq!(ask("tell", &json!(["x", "y"]), true), Said::Error("\"tell\" command takes at most 1 arguments".into()));
        assert_eq!(ask("tell", &json!([]), false), Said::Text("told".into()));
        assert_eq!(ask("echo", &json!(["a"]), true), Said::Text("a".into()));
    }

    #[test]
    fn refusals_word_for_word() {
        check("echo", &json!(["a", "b"]), Ok("a b"));
        check("echo", &json!([]), Err("\"echo\" command requires at least 1 arguments"));
        check("echo", &json!(["a", "b", "c"]), Err("\"echo\" command takes at most 2 arguments"));
        check("echo", &json!([1]), Err("\"echo\" command has non-string argument"));
        check("hidden", &json!(["a", "b", "c"]), Err("no"));
        check("x", &json!([]), Err("\"x\" is not a valid command (use \"list-commands\" to see a list of valid commands)"));
    }

    /// The list is answered without a row; with one, that says what may stand behind it.
    #[test]
    fn who_asks_for_the_list() {
        let ask = |rows: Vec<Command<u32>>, params: Value| {
            let (sender, mut receiver) = oneshot::channel();
            let params = params.as_array().unwrap().clone();
            let request = Request { method: LIST.to_owned(), params, reply: Reply { sender, json: false } };
            Registry::new(rows).serve(&mut 0, request);
            receiver.try_recv().unwrap()
        };
        let row = || Command::now(LIST, Some(""), (0, 0), |_, _| Err("no".into()));
        let without = Said::Text(Registry::new(ROWS.iter().cloned()).list());
        assert_eq!(ask(ROWS.to_vec(), json!([])), without);
        assert_eq!(ask(ROWS.to_vec(), json!(["x"])), without);
        assert_eq!(ask(vec![row()], json!([])), Said::Text("The available commands are:\n  list-commands           \n".into()));
        let refused = "\"list-commands\" command takes at most 0 arguments";
        assert_eq!(ask(vec![row()], json!(["x"])), Said::Error(refused.into()));
    }

    #[test]
    fn the_list_is_sorted_and_laid_out_as_ovs_does() {
        let expect = "The available commands are:\n  dpctl/disable-a-long-one \n  echo                    arg [arg]\n  tell                    [x]\n";
        let registry = Registry::new(ROWS.iter().cloned());
        assert_eq!(registry.list(), expect);
        assert_eq!(registry.list_json(), json!({"dpctl/disable-a-long-one": "", "echo": "arg [arg]", "tell": "[x]"}));
    }
}
