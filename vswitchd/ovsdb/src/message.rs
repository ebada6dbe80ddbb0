//! JSON-RPC 1.0 messages as RFC 7047 section 4 uses them.

use serde_json::{Map, Value};

/// One message.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// Wants a reply with the same id.
    Request {
        /// What to do.
        method: String,
        /// With what.
        params: Vec<Value>,
        /// Never null.
        id: Value,
    },
    /// Wants no reply.
    Notification {
        /// What happened.
        method: String,
        /// Its particulars.
        params: Vec<Value>,
    },
    /// A request succeeded.
    Reply {
        /// The request's.
        id: Value,
        /// What came of it.
        result: Value,
    },
    /// A request failed.
    Error {
        /// The request's.
        id: Value,
        /// Why; never null.
        error: Value,
    },
}

impl Message {
    /// Makes sense of a JSON value. The error is the text for the log.
    pub fn from_json(json: Value) -> Result<Self, String> {
        let Value::Object(mut object) = json else {
            return Err("message is not a JSON object".into());
        };
        let known = ["method", "params", "id", "result", "error"];
        if let Some(name) = object.keys().find(|k| !known.contains(&k.as_str())) {
            return Err(format!("message has unexpected member \"{name}\""));
        }
        let mut take = |name: &str| object.shift_remove(name).filter(|v| !v.is_null());
        let (method, params, id) = (take("method"), take("params"), take("id"));
        let (result, error) = (take("result"), take("error"));
        match (method, id, error) {
            (Some(Value::String(method)), id, None) if result.is_none() => {
                let params = match params {
                    Some(Value::Array(params)) => params,
                    Some(_) => return Err("\"params\" must be JSON array".into()),
                    None => return Err("message must have \"params\"".into()),
                };
                Ok(match id {
                    Some(id) => Self::Request { method, params, id },
                    None => Self::Notification { method, params },
                })
            }
            (Some(Value::String(_)), _, _) => Err("request must not have \"result\" or \"error\"".into()),
            (Some(_), _, _) => Err("method is not a JSON string".into()),
            (None, Some(id), Some(error)) if result.is_none() => Ok(Self::Error { id, error }),
            (None, Some(id), None) => Ok(Self::Reply { id, result: result.unwrap_or_default() }),
            (None, Some(_), Some(_)) => Err("reply has both \"result\" and \"error\"".into()),
            (None, None, _) => Err("reply must have \"id\"".into()),
        }
    }

    /// The JSON value.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut object = Map::new();
        let mut put = |name: &str, value: Value| object.insert(name.to_owned(), value);
        match self {
            Self::Request { method, params, id } => {
                put("id", id.clone());
                put("method", method.as_str().into());
                put("params", params.clone().into());
            }
            Self::Notification { method, params } => {
                put("id", Value::Null);
                put("method", method.as_str().into());
                put("params", params.clone().into());
            }
            Self::Reply { id, result } => {
                put("id", id.clone());
                put("result", result.clone());
                put("error", Value::Null);
            }
            Self::Error { id, error } => {
                put("id", id.clone());
                put("result", Value::Null);
                put("error", error.clone());
            }
        }
        Value::Object(object)
    }
}
