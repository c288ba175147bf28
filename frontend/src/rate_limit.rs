//! How often one address may do what anybody may do: register clients, begin authorizations, try codes.
//!
//! Counted in this process alone: a limit that is shared would be one more thing to keep, and what these requests leave
//! behind is bounded in the database anyway.

use std::{
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
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
        let Some(limiter) = &self.limiter else { return Ok(()) };
        if self.checked.fetch_add(1, Relaxed) % SWEEP == SWEEP - 1 {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
        limiter.check_key(&network(address)).map_err(|until| {
            let seconds = until.wait_time_from(self.clock.now()).as_secs_f64().ceil();
            Fault::too_many_requests((seconds as u32).max(1))
        })
    }
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
    }
}
