//! RFC 7047 server, client, schema, journal.
