//! Names of a switch's ports and tables, asked for when the first name is needed.

use super::options::Options;
use super::vconn::Vconn;
use crate::console::Io;
use crate::fault::Fault;
use flow::forms::PortNames;
use openflow::message::{Body, MultipartBody, PortDesc};
use openflow::text::{Names, TableNames};
use openflow::{OfPort, TableId, Version};
use std::cell::OnceCell;

/// The names of one switch, or of none.
#[derive(Debug)]
pub struct SwitchNames {
    switch: Option<(String, Options)>,
    ports: OnceCell<Vec<(u32, String)>>,
    tables: OnceCell<Vec<(u8, String)>>,
}

impl SwitchNames {
    /// The names of a switch, asked for when needed; with `--no-names` none.
    #[must_use]
    pub fn of(options: &Options, switch: &str) -> Self {
        let wanted = options.names != Some(false);
        Self { switch: wanted.then(|| (switch.to_owned(), options.clone())), ports: OnceCell::new(), tables: OnceCell::new() }
    }

    /// No names.
    #[must_use]
    pub fn none() -> Self {
        Self { switch: None, ports: OnceCell::new(), tables: OnceCell::new() }
    }

    /// As the text readers and writers take them.
    #[must_use]
    pub fn names(&self) -> Names<'_> {
        Names { ports: self, tables: self }
    }

    fn open(&self) -> Option<Vconn> {
        let (switch, options) = self.switch.as_ref()?;
        let (mut out, mut err) = (std::io::sink(), std::io::sink());
        Vconn::open(&mut Io::new(&mut out, &mut err), options, switch).ok()
    }

    fn ports(&self) -> &[(u32, String)] {
        self.ports.get_or_init(|| {
            let ports = self.open().and_then(|mut v| fetch_ports(&mut v).ok()).unwrap_or_default();
            ports.into_iter().map(|p| (p.port.0 & 0xffff, p.name)).collect()
        })
    }

    fn tables(&self) -> &[(u8, String)] {
        self.tables.get_or_init(|| self.open().and_then(|mut v| fetch_tables(&mut v).ok()).unwrap_or_default())
    }
}

impl PortNames for SwitchNames {
    fn name(&self, port: u32) -> Option<String> {
        self.ports().iter().find(|(n, _)| *n == port & 0xffff).map(|(_, name)| name.clone())
    }

    fn number(&self, name: &str) -> Option<u32> {
        let mut found = self.ports().iter().filter(|(_, n)| n == name);
        match (found.next(), found.next()) {
            // A name of two ports names neither.
            (Some((number, _)), None) => Some(*number),
            (_, _) => None,
        }
    }
}

impl TableNames for SwitchNames {
    fn name(&self, table: TableId) -> Option<String> {
        self.tables().iter().find(|(n, _)| *n == table.0).map(|(_, name)| name.clone())
    }

    fn number(&self, name: &str) -> Option<TableId> {
        self.tables().iter().find(|(_, n)| n == name).map(|(n, _)| TableId(*n))
    }
}

/// All ports of a switch. From OpenFlow 1.3 on the features reply does not have them.
///
/// # Errors
/// The connection's.
pub fn fetch_ports(vconn: &mut Vconn) -> Result<Vec<PortDesc>, Fault> {
    if vconn.dialect.version < Version::V13 {
        let reply = vconn.request(Body::FeaturesRequest)?;
        return Ok(if let Body::FeaturesReply(features) = reply { features.ports } else { Vec::new() });
    }
    let mut ports = Vec::new();
    for (_, message) in vconn.transact_multipart(MultipartBody::PortDescRequest(OfPort::ANY))? {
        if let Body::Stats(m) = message.body
            && let MultipartBody::PortDescReply(more) = m.body
        {
            ports.extend(more);
        }
    }
    Ok(ports)
}

/// Tables that have names other than `table` and their number (OVS's default).
fn fetch_tables(vconn: &mut Vconn) -> Result<Vec<(u8, String)>, Fault> {
    let request = if vconn.dialect.version < Version::V13 {
        MultipartBody::TableRequest
    } else {
        MultipartBody::TableFeaturesRequest(Vec::new())
    };
    let mut tables = Vec::new();
    for (_, message) in vconn.transact_multipart(request)? {
        let Body::Stats(m) = message.body else { continue };
        if let MultipartBody::TableReply(all) = m.body {
            tables.extend(all.into_iter().map(|t| (t.table.0, t.features.name)));
        } else if let MultipartBody::TableFeaturesReply(all) = m.body {
            tables.extend(all.into_iter().map(|t| (t.table.0, t.name)));
        }
    }
    let default = |number: u8, name: &str| name.is_empty() || name == format!("table{number}") || name == number.to_string();
    tables.retain(|(number, name)| !default(*number, name));
    Ok(tables)
}
