//! The Agent and the RAG service may be slow, away, broken or lying: each
//! question ends as said and in time, and tasks are neither lost nor doubled.

mod away;
mod breaker;
mod encryption;
mod faults;
mod journey;
mod process;
mod raw;
mod wire;
mod world;

use std::time::Duration;

use dats::clock::Clock;
use dats::routing::{Agent, Breaker, Rag, Service};
use dats::task::{Domain, ProjectId, TaskId, Tier};

/// Time for one try in these tests.
const TRY: Duration = Duration::from_millis(500);
/// Time for a whole call.
const CALL: Duration = Duration::from_millis(1100);
/// What a loaded machine may add to a deadline.
const SLACK: Duration = Duration::from_millis(1500);
/// A breaker that never opens.
const NEVER: Breaker =
    Breaker { failures: u32::MAX, cool_down_initial: Duration::from_secs(1), cool_down_max: Duration::from_secs(1) };

/// A service with short deadlines, one retry and no breaker.
fn service(address: &str) -> Service {
    Service {
        try_timeout: TRY,
        call_timeout: CALL,
        retries: 1,
        retry_initial: Duration::from_millis(10),
        breaker: NEVER,
        ..Service::agent(address.parse().unwrap())
    }
}

fn tiers() -> Vec<Tier> {
    ["tiny", "small", "large", "coding", "frontier"].map(|name| Tier::new(name).unwrap()).to_vec()
}

fn agent(service: Service) -> Agent {
    Agent::new(service, tiers(), Clock::new()).unwrap()
}

fn rag(service: Service) -> Rag {
    Rag::new(service, 4000, Clock::new()).unwrap()
}

fn project() -> ProjectId {
    ProjectId::new("p-1").unwrap()
}

fn domain() -> Domain {
    Domain::new("code-general").unwrap()
}

fn task() -> TaskId {
    "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap()
}
