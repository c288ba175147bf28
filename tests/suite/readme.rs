//! The README's tables, against what there is.

use anyhow::{Result, ensure};
use tests::checkout;

use crate::world::{self, Shared, Trials};

pub fn tests(world: &Shared) -> Trials {
    world::tests![world; readme_names_all_that_there_is]
}

/// What users of the extension can name: functions that a role of ours or everybody may call, or that are for superusers
/// alone by name; views, domains, settings.
const NAMES: &str = "
    SELECT DISTINCT proname::text FROM pg_proc AS p
     WHERE pronamespace = 'mcp'::regnamespace AND prorettype <> 'event_trigger'::regtype
       AND (proname IN ('register_client', 'remove_client')
            OR EXISTS (SELECT FROM unnest(ARRAY['mcp_auth', 'mcp_exec', 'mcp_user', 'mcp_monitor', 'app_owner']) AS role
                        WHERE has_function_privilege(role, p.oid, 'EXECUTE')))
    UNION ALL
    SELECT relname::text FROM pg_class WHERE relnamespace = 'mcp'::regnamespace AND relkind = 'v'
    UNION ALL
    SELECT typname::text FROM pg_type WHERE typnamespace = 'mcp'::regnamespace AND typtype = 'd'
    UNION ALL
    SELECT name FROM pg_settings WHERE name LIKE 'mcp.%'
    ORDER BY 1";

async fn readme_names_all_that_there_is(world: &Shared) -> Result<()> {
    let readme = std::fs::read_to_string(checkout::root().join("README.md"))?;
    let database = world.database().await?;
    let rows = database.superuser().await?.query(NAMES, &[]).await?;
    ensure!(rows.len() > 80, "only {} names were found", rows.len());
    let names = rows.iter().map(|row| row.get::<_, String>(0));
    let missing: Vec<_> = names
        .filter(|name| {
            let named = [format!("`{name}`"), format!("`mcp.{name}`"), format!("mcp.{name}(")];
            !named.iter().any(|form| readme.contains(form))
        })
        .collect();
    ensure!(missing.is_empty(), "the README does not name {}", missing.join(", "));
    Ok(())
}
