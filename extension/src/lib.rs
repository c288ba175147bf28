//! Sessions, sign-in and identity for MCP servers, kept in PostgreSQL.
//!
//! A client presents a token; [`session`] judges it; [`identity`] makes the transaction act for its user, which row level
//! security policies read. What a session holds is sealed ([`seal`]) for the holder of a [`token`]; what happened to it
//! is in the [`audit`] log.

use pgrx::prelude::*;

mod audit;
mod changes;
mod cleanup;
mod doctor;
mod error;
mod guc;
mod identity;
mod ids;
mod interval;
mod jsonb;
mod oauth;
mod owner;
mod seal;
mod session;
mod settings;
mod sign_in;
mod statement;
mod supabase;
mod token;
mod tool;
mod worker;

pg_module_magic!(name, version);

#[pg_schema]
mod mcp {}

extension_sql_file!("../sql/roles.sql", bootstrap);
extension_sql_file!("../sql/tables.sql", requires = [mcp]);
extension_sql_file!("../sql/identity.sql", requires = [mcp]);
extension_sql_file!("../sql/sessions.sql", requires = ["tables", "identity"]);
extension_sql_file!("../sql/policies.sql", requires = ["tables", "identity"]);
extension_sql_file!("../sql/oauth.sql", requires = ["tables"]);
extension_sql_file!("../sql/views.sql", requires = ["policies", "sessions", cleanup::session_stats]);
extension_sql_file!(
    "../sql/tools.sql",
    requires = [mcp, "tables", tool::expose_tool, tool::withdraw_tool, tool::list_tools, tool::call_tool]
);
extension_sql_file!(
    "../sql/resources.sql",
    requires = [
        "tables",
        tool::resource::expose_resource,
        tool::resource::withdraw_resource,
        tool::resource::list_resources,
        tool::resource::list_resource_templates,
        tool::resource::read_resource,
    ]
);
extension_sql_file!(
    "../sql/prompts.sql",
    requires = [
        "tables",
        tool::prompt::expose_prompt,
        tool::prompt::withdraw_prompt,
        tool::prompt::list_prompts,
        tool::prompt::get_prompt,
        tool::completion::complete,
    ]
);
extension_sql_file!(
    "../sql/dialogue.sql",
    requires = [
        "tables",
        tool::dialogue::request_input,
        tool::dialogue::progress,
        tool::dialogue::client_capabilities,
    ]
);
extension_sql_file!("../sql/changes.sql", requires = ["tools", "resources", "prompts"]);
extension_sql_file!("../sql/grants.sql", finalize);

#[doc(hidden)]
#[pg_guard]
pub extern "C-unwind" fn _PG_init() {
    // SAFETY: globals of the process that loads the library.
    let (preloading, upgrading) =
        unsafe { (pg_sys::process_shared_preload_libraries_in_progress, pg_sys::IsBinaryUpgrade) };
    settings::declare(preloading);
    identity::init();
    tool::temporary::init();
    if preloading && !upgrading {
        worker::register();
    }
}

/// The version of the library, for frontends to compare with what they were built for.
#[pg_extern(schema = "mcp", immutable, parallel_safe)]
fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

#[cfg(test)]
pub mod pg_test {
    pub fn setup(_: Vec<&str>) {}

    #[must_use]
    pub fn postgresql_conf_options() -> Vec<&'static str> {
        vec![
            "shared_preload_libraries = 'mcp_sessions'",
            "mcp.database = 'pgrx_tests'",
            "mcp.cleanup_interval = 1",
        ]
    }
}
