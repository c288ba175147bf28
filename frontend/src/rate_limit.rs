//! How often one address may do what anybody may do: register clients, begin authorizations, try codes, guess tokens.
//!
//! Counted in this process alone: a limit that is shared would be one more thing to keep, and what these requests leave
//! behind is bounded in the database anyway.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::NoOpMiddleware,
    state::keyed::HashMapStateStore,
};

use crate::error::Fault;

/// After how many requests the addresses that have not come back are forgotten.
const SWEEP: usize = 1024;

type Limiter = RateLimiter<
    IpAddr,
    HashMapStateStore<IpAddr>,
    DefaultClock,
    NoOpMiddleware<<DefaultClock as Clock>::Instant>,
>;

/// A number of requests a minute for each address; all of them may come at once.
pub struct RateLimit {
    limiter: Option<Limiter>,
    clock: DefaultClock,
    checked: AtomicUsize,
}

impl RateLimit {
    /// `per_minute` 0 means no limit.
    pub fn new(per_minute: u32) -> Self {
        let clock = DefaultClock::default();
        let limiter = NonZeroU32::new(per_minute).map(|number| {
            Limiter::new(Quota::per_minute(number), HashMapStateStore::default(), clock.clone())
        });
        Self { limiter, clock, checked: AtomicUsize::new(0) }
    }

    /// Counts a request of `address`; a 429 that says when to come back where there were too many.
    pub fn check(&self, address: IpAddr) -> Result<(), Fault> {
        self.count(address).map_err(wait)
    }

    /// Counts a request of `address`; how long to wait where there were too many.
    fn count(&self, address: IpAddr) -> Result<(), Duration> {
        let Some(limiter) = &self.limiter else { return Ok(()) };
        if self.checked.fetch_add(1, Relaxed) % SWEEP == SWEEP - 1 {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
        limiter.check_key(&network(address)).map_err(|until| until.wait_time_from(self.clock.now()))
    }
}

/// A number of refusals a minute for each address.
///
/// Whether a request is refused is known when the database has been asked, which is what it costs. So refusals count
/// afterwards, and an address that had too many is held back before.
pub struct RefusalLimit {
    refusals: RateLimit,
    held_back: Mutex<HashMap<IpAddr, Instant>>,
}

impl RefusalLimit {
    /// `per_minute` 0 means no limit.
    pub fn new(per_minute: u32) -> Self {
        Self { refusals: RateLimit::new(per_minute), held_back: Mutex::default() }
    }

    /// Counts a refusal.
    pub fn refused(&self, address: IpAddr) {
        if let Err(wait) = self.refusals.count(address) {
            let now = Instant::now();
            let mut held_back = self.held_back();
            if held_back.len() >= SWEEP {
                held_back.retain(|_, until| now < *until);
            }
            held_back.insert(network(address), now + wait);
        }
    }

    /// Whether `address` may ask; a 429 that says when to come back where it was refused too often.
    pub fn admit(&self, address: IpAddr) -> Result<(), Fault> {
        let until = self.held_back().get(&network(address)).copied();
        match until.map(|until| until.saturating_duration_since(Instant::now())) {
            Some(left) if !left.is_zero() => Err(wait(left)),
            _ => Ok(()),
        }
    }

    fn held_back(&self) -> std::sync::MutexGuard<'_, HashMap<IpAddr, Instant>> {
        // A map is whole after any panic.
        self.held_back.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wait(left: Duration) -> Fault {
    Fault::too_many_requests((left.as_secs_f64().ceil() as u32).max(1))
}

/// Who is counted as one: an IPv4 address, or the /64 that every IPv6 subscriber has at the least.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_own_allowance() {
        let limit = RateLimit::new(3);
        let (one, two) = ("203.0.113.1".parse().unwrap(), "203.0.113.2".parse().unwrap());
        for _ in 0..3 {
            limit.check(one).unwrap();
        }
        let fault = limit.check(one).expect_err("the fourth within a minute");
        assert_eq!(fault.status, 429);
        assert!((1..=20).contains(&fault.retry_after.unwrap()), "{:?}", fault.retry_after);
        limit.check(two).unwrap();
        for _ in 0..10 {
            RateLimit::new(0).check(one).unwrap();
        }
    }

    #[test]
    fn an_address_that_is_refused_too_often_is_held_back() {
        let limit = RefusalLimit::new(3);
        let (one, two) = ("203.0.113.1".parse().unwrap(), "203.0.113.2".parse().unwrap());
        for _ in 0..4 {
            limit.admit(one).unwrap();
            limit.refused(one);
        }
        let fault = limit.admit(one).expect_err("after the fourth refusal within a minute");
        assert_eq!(fault.status, 429);
        assert!((1..=20).contains(&fault.retry_after.unwrap()), "{:?}", fault.retry_after);
        limit.admit(two).unwrap();
        limit.held_back().insert(one, Instant::now());
        limit.admit(one).unwrap();
        let unlimited = RefusalLimit::new(0);
        for _ in 0..10 {
            unlimited.refused(one);
            unlimited.admit(one).unwrap();
        }
    }

    #[test]
    fn one_subscriber_of_ipv6_is_one_address() {
        let limit = RateLimit::new(1);
        limit.check("2001:db8:0:1::1".parse().unwrap()).unwrap();
        assert!(limit.check("2001:db8:0:1:ffff::2".parse().unwrap()).is_err());
        limit.check("2001:db8:0:2::1".parse().unwrap()).unwrap();
        limit.check("203.0.113.1".parse().unwrap()).unwrap();
        assert!(limit.check("::ffff:203.0.113.1".parse().unwrap()).is_err());
    }

    #[test]
    fn addresses_that_do_not_come_back_are_forgotten() {
        let limit = RateLimit::new(60_000_000);
        for number in 0..10 * SWEEP {
            limit.check(IpAddr::from((number as u32).to_be_bytes())).unwrap();
        }
        assert!(limit.limiter.unwrap().len() <= 2 * SWEEP);
        let limit = RefusalLimit::new(1);
        let past = (0..SWEEP as u32).map(|number| (IpAddr::from(number.to_be_bytes()), Instant::now()));
        limit.held_back().extend(past);
        let one = "203.0.113.1".parse().unwrap();
        limit.refused(one);
        limit.refused(one);
        assert_eq!(limit.held_back().keys().collect::<Vec<_>>(), [&one]);
        // Those who are to wait are not.
        let later = Instant::now() + Duration::from_secs(600);
        let future = (0..SWEEP as u32).map(|number| (IpAddr::from(number.to_be_bytes()), later));
        limit.held_back().extend(future);
        limit.refused(one);
        assert_eq!(limit.held_back().len(), SWEEP + 1);
    }

    #[test]
    fn nobody_is_told_to_come_back_at_once() {
        assert_eq!(wait(Duration::ZERO).retry_after, Some(1));
        assert_eq!(wait(Duration::from_millis(1001)).retry_after, Some(2));
    }
}
