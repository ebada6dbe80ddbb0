//! Where a program's database connections have their keys from: the files that its options name.

use super::options::Tls;
use ovsdb::tls::{ClientConfig, ServerConfig, TlsSource};
use std::sync::Arc;

impl TlsSource for Tls {
    fn client(&self) -> Result<Arc<ClientConfig>, String> {
        self.files().client().map_err(|e| e.to_string())
    }

    fn server(&self) -> Result<Arc<ServerConfig>, String> {
        self.files().server().map_err(|e| e.to_string())
    }

    fn server_name(&self) -> Option<String> {
        self.server_name.clone()
    }
}

impl Tls {
    /// For `ovsdb`'s connections.
    pub fn source(&self) -> ovsdb::tls::Tls {
        Some(Arc::new(self.clone()))
    }
}
