//! The end-to-end harness: a throw-away PostgreSQL cluster, spawned frontends, identity providers
//! written by others, a browser, MCP clients, and a ledger of every secret handed out on the way.
//!
//! The suite itself is `suite/`, one file a behaviour; the measurements are `bench/`.

pub mod balancer;
pub mod browser;
pub mod checkout;
pub mod chromium;
pub mod cluster;
pub mod database;
pub mod documents;
pub mod events;
pub mod frontend;
pub mod hygiene;
pub mod idp;
pub mod ledger;
pub mod local_run;
pub mod mcp;
pub mod npm;
pub mod oauth;
pub mod official;
pub mod pgbouncer;
pub mod process;
pub mod process_table;
pub mod round_robin;
pub mod session;
pub mod site;
pub mod sqlsmith;
pub mod standstill;
pub mod stub;
pub mod tap;
pub mod tools;
pub mod wait;
