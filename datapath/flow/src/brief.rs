//! Locks that are mostly held briefly: for microseconds, by threads that have a core each and do not sleep meanwhile.
//!
//! What enters: a mutex. What leaves: its guard. Neighbours: `switch` and `udpif`, at whose locks handler threads meet.
//!
//! To sleep, and to be woken by another core, takes longer than such a lock is held, and whoever lets go of it pays for the call that wakes.
//! So one looks again for about as long as most holders have it. Some have it longer: `execute` holds the core of its callers for a whole batch,
//! with the system calls that send it. Then, and where the holder has no core, that is for nothing, and bounded: one sleeps as at any other lock.

use std::sync::{LockResult, Mutex, MutexGuard, TryLockError};

/// How often one looks. With the pauses between them: some 25 microseconds on the processor that this was measured on, whose pause takes
/// 65 cycles; where it takes more or fewer, so does this.
const LOOKS: usize = 32;
/// Pauses between two looks: each look takes the lock's cache line from its holder, who works beside it.
const PAUSES: usize = 32;

/// Locks a mutex that is held briefly.
pub fn lock<T>(mutex: &Mutex<T>) -> LockResult<MutexGuard<'_, T>> {
    for _ in 0..LOOKS {
        match mutex.try_lock() {
            Ok(guard) => return Ok(guard),
            Err(TryLockError::Poisoned(poisoned)) => return Err(poisoned),
            Err(TryLockError::WouldBlock) => (0..PAUSES).for_each(|_| std::hint::spin_loop()),
        }
    }
    mutex.lock()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::PoisonError;

    /// Held for longer than anybody looks, it is waited for; and a poisoned one is told as such.
    #[test]
    fn is_locked_by_one_at_a_time() {
        let sum = Mutex::new(0u32);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for i in 0..50 {
                        let mut sum = lock(&sum).expect("nobody panics");
                        let before = *sum;
                        if i % 10 == 0 {
                            std::thread::sleep(std::time::Duration::from_millis(1));
                        }
                        *sum = before + 1;
                    }
                });
            }
        });
        assert_eq!(*lock(&sum).expect("nobody panicked"), 200);
        let panics = || {
            let _held = lock(&sum).expect("nobody panicked");
            panic!("with the lock in hand");
        };
        assert!(std::thread::scope(|scope| scope.spawn(panics).join().is_err()));
        assert_eq!(*lock(&sum).unwrap_or_else(PoisonError::into_inner), 200);
        assert!(lock(&sum).is_err());
    }
}
