//! Keys and certificates of a server, which its options name by file or by the database column that names the file
//! (`db:DATABASE,TABLE,COLUMN`), as ovs-ctl has `--private-key=db:Open_vSwitch,SSL,private_key`.

use crate::process::Tls;
use ovsdb::Server;
use ovsdb::server::{Admin, WeakAdmin};
use ovsdb::tls::{ClientConfig, ServerConfig, TlsSource};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

/// Where they are.
#[derive(Debug)]
pub struct DatabaseTls {
    options: Tls,
    server: OnceLock<WeakAdmin>,
}

impl DatabaseTls {
    /// As these options say.
    #[must_use]
    pub fn new(options: Tls) -> Self {
        Self { options, server: OnceLock::new() }
    }

    /// As the switch's own database says, where these options leave it open.
    #[must_use]
    pub fn of_switch(mut options: Tls) -> Self {
        let column = |name: &str| Some(PathBuf::from(format!("db:Open_vSwitch,SSL,{name}")));
        options.private_key = options.private_key.or_else(|| column("private_key"));
        options.certificate = options.certificate.or_else(|| column("certificate"));
        if options.bootstrap_ca_cert.is_none() {
            options.ca_cert = options.ca_cert.or_else(|| column("ca_cert"));
        }
        Self::new(options)
    }

    /// The server whose columns are meant; once, when it has started.
    pub fn read_from(&self, server: &Server) {
        // A second call would be a second server, which has a source of its own.
        let _ = self.server.set(server.admin().downgrade());
    }

    fn resolved(&self) -> Tls {
        let admin = self.server.get().and_then(WeakAdmin::upgrade);
        let file = |path: &Option<PathBuf>| path.as_ref().and_then(|p| resolve(admin.as_ref(), &p.display().to_string()));
        let text = |text: &Option<String>| text.as_ref().and_then(|t| resolve(admin.as_ref(), t));
        let o = &self.options;
        Tls {
            private_key: file(&o.private_key).map(PathBuf::from),
            certificate: file(&o.certificate).map(PathBuf::from),
            ca_cert: file(&o.ca_cert).map(PathBuf::from),
            bootstrap_ca_cert: file(&o.bootstrap_ca_cert).map(PathBuf::from),
            peer_ca_cert: file(&o.peer_ca_cert).map(PathBuf::from),
            protocols: text(&o.protocols),
            ciphers: text(&o.ciphers),
            ciphersuites: text(&o.ciphersuites),
            ..o.clone()
        }
    }
}

/// The text itself, or what the column that it names holds.
fn resolve(admin: Option<&Admin>, text: &str) -> Option<String> {
    let Some(place) = text.strip_prefix("db:") else {
        return Some(text.to_owned());
    };
    let mut parts = place.splitn(3, ',');
    let (database, table, column) = (parts.next()?, parts.next()?, parts.next()?);
    admin?.text_at(database, table, column).filter(|t| !t.is_empty())
}

impl TlsSource for DatabaseTls {
    fn client(&self) -> Result<Arc<ClientConfig>, String> {
        self.resolved().client()
    }

    fn server(&self) -> Result<Arc<ServerConfig>, String> {
        self.resolved().server()
    }

    fn server_name(&self) -> Option<String> {
        self.options.server_name.clone()
    }
}
