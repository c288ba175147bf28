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
mod discovery;
mod doctor;
mod expiry;
mod fuzz;
mod grants;
mod guide;
mod hostile_provider;
mod http_surface;
mod lifecycle;
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
mod redirects;
mod refresh_tokens;
mod registration;
mod replicas;
mod results;
mod rounds;
mod security_table;
mod sign_in;
mod smuggling;
mod step_up;
mod survival;
mod token_endpoint;
mod trojans;
mod types;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::Arguments;

use crate::world::World;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Tests wait far more than they work; more of them at once than there are cores.
    arguments.test_threads.get_or_insert(6);

    // A failed assertion is one line; which test it was in, libtest says.
    std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));

    let world = match World::new() {
        Ok(world) => Arc::new(world),
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let mut trials = Vec::new();
    trials.extend(abandoned::tests(&world));
    trials.extend(arguments::tests(&world));
    trials.extend(attacks::tests(&world));
    trials.extend(attacks_server::tests(&world));
    trials.extend(authorization_code::tests(&world));
    trials.extend(authorization_conformance::tests(&world));
    trials.extend(bad_input::tests(&world));
    trials.extend(cancellation::tests(&world));
    trials.extend(causes::tests(&world));
    trials.extend(changes::tests(&world));
    trials.extend(client_documents::tests(&world));
    trials.extend(discovery::tests(&world));
    trials.extend(doctor::tests(&world));
    trials.extend(consent::tests(&world));
    trials.extend(checklist::tests(&world));
    trials.extend(checklist_http::tests(&world));
    trials.extend(checklist_mcp::tests(&world));
    trials.extend(defences::tests(&world));
    trials.extend(expiry::tests(&world));
    trials.extend(fuzz::tests(&world));
    trials.extend(guide::tests(&world));
    trials.extend(hostile_provider::tests(&world));
    trials.extend(http_surface::tests(&world));
    trials.extend(lifecycle::tests(&world));
    trials.extend(mcp_calls::tests(&world));
    trials.extend(official_clients::tests(&world));
    trials.extend(pages::tests(&world));
    trials.extend(oauth_survival::tests(&world));
    trials.extend(own_sessions::tests(&world));
    trials.extend(pooler::tests(&world));
    trials.extend(pooling::tests(&world));
    trials.extend(provider_answers::tests(&world));
    trials.extend(redirects::tests(&world));
    trials.extend(refresh_tokens::tests(&world));
    trials.extend(progress::tests(&world));
    trials.extend(protocol::tests(&world));
    trials.extend(replicas::tests(&world));
    trials.extend(rounds::tests(&world));
    trials.extend(rate_limits::tests(&world));
    trials.extend(registration::tests(&world));
    trials.extend(results::tests(&world));
    trials.extend(sign_in::tests(&world));
    trials.extend(step_up::tests(&world));
    trials.extend(survival::tests(&world));
    trials.extend(token_endpoint::tests(&world));
    trials.extend(smuggling::tests(&world));
    trials.extend(trojans::tests(&world));
    let last = no_secrets::tests(&world);
    let names: Vec<_> = trials.iter().chain(&last).map(|trial| trial.name().to_owned()).collect();
    trials.push(security_table::trial(names.clone()));
    let whole = !arguments.list && arguments.filter.is_none() && arguments.skip.is_empty();
    trials.extend(types::tests(&world));
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
