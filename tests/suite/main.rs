//! The end-to-end suite: one file a behaviour, one cluster and one set of identity providers for all.
//!
//! The tests run first; then everything that was written on the way (the servers' logs, the frontends' logs,
//! the data directory, a dump of every database) is searched for every secret that was handed out.

mod world;

mod abandoned;
mod arguments;
mod attacks;
mod attacks_server;
mod authorization_code;
mod authorization_conformance;
mod bad_input;
mod cancellation;
mod causes;
mod changes;
mod checklist;
mod checklist_http;
mod checklist_mcp;
mod client_documents;
mod consent;
mod defences;
mod demo;
mod dev_provider;
mod discovery;
mod doctor;
mod dump;
mod expiry;
mod fuzz;
mod grants;
mod guide;
mod hostile_provider;
mod http_surface;
mod hung_peers;
mod image;
mod lifecycle;
mod make_run;
mod mcp_calls;
mod no_secrets;
mod oauth_survival;
mod official_clients;
mod own_sessions;
mod pages;
mod pooler;
mod pooling;
mod progress;
mod protocol;
mod provider_answers;
mod rate_limits;
mod readme;
mod redirects;
mod refresh_tokens;
mod registration;
mod replicas;
mod results;
mod rounds;
mod runners;
mod security_table;
mod server_key;
mod settings;
mod sign_in;
mod smuggling;
mod standby;
mod step_up;
mod supabase;
mod survival;
mod token_endpoint;
mod trojans;
mod types;
mod worker;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::Arguments;

use crate::world::{Shared, Trials, World};

/// What is tested, a file each.
const SUITES: &[fn(&Shared) -> Trials] = &[
    abandoned::tests,
    arguments::tests,
    attacks::tests,
    attacks_server::tests,
    authorization_code::tests,
    authorization_conformance::tests,
    bad_input::tests,
    cancellation::tests,
    causes::tests,
    changes::tests,
    checklist::tests,
    checklist_http::tests,
    checklist_mcp::tests,
    client_documents::tests,
    consent::tests,
    defences::tests,
    demo::tests,
    dev_provider::tests,
    discovery::tests,
    doctor::tests,
    dump::tests,
    expiry::tests,
    fuzz::tests,
    guide::tests,
    hostile_provider::tests,
    http_surface::tests,
    hung_peers::tests,
    image::tests,
    lifecycle::tests,
    make_run::tests,
    mcp_calls::tests,
    oauth_survival::tests,
    official_clients::tests,
    own_sessions::tests,
    pages::tests,
    pooler::tests,
    pooling::tests,
    progress::tests,
    protocol::tests,
    provider_answers::tests,
    rate_limits::tests,
    readme::tests,
    redirects::tests,
    refresh_tokens::tests,
    registration::tests,
    replicas::tests,
    results::tests,
    rounds::tests,
    runners::tests,
    server_key::tests,
    settings::tests,
    sign_in::tests,
    smuggling::tests,
    standby::tests,
    step_up::tests,
    supabase::tests,
    survival::tests,
    token_endpoint::tests,
    trojans::tests,
    types::tests,
    worker::tests,
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Tests wait far more than they work; more of them at once than there are cores.
    arguments.test_threads.get_or_insert(6);

    // A failed assertion is one line; which test it was in, libtest says.
    std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));

    let whole = !arguments.list && arguments.filter.is_none() && arguments.skip.is_empty();
    let world = match World::new(whole) {
        Ok(world) => Arc::new(world),
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let mut trials: Vec<_> = SUITES.iter().flat_map(|tests| tests(&world)).collect();
    let last = no_secrets::tests(&world);
    let names: Vec<_> = trials.iter().chain(&last).map(|trial| trial.name().to_owned()).collect();
    trials.push(security_table::trial(names.clone()));
    let conclusion = libtest_mimic::run(&arguments, trials);
    // Whatever was run, what it handed out is looked for.
    arguments.filter = None;
    let secrets = if arguments.list { None } else { Some(libtest_mimic::run(&arguments, last)) };
    let parts = std::iter::once(conclusion).chain(secrets);
    let (passed, failed) =
        parts.fold((0, 0), |(passed, failed), part| (passed + part.num_passed, failed + part.num_failed));
    println!("looked into {} connections for what was left there", world.looked());
    // Only now: what the clusters wrote has been read.
    drop(world);
    if arguments.list {
        return ExitCode::SUCCESS;
    }
    if let Ok(counts) = security_table::counts(&names)
        && whole
    {
        println!("security table: {counts}, {}", if failed == 0 { "all passed" } else { "not all passed" });
    }
    println!(
        "test result: {}. {passed} passed; {failed} failed; all in all",
        if failed == 0 { "ok" } else { "FAILED" }
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
