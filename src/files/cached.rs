//! Values of files that are read again when they are used, once they have reached an age.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// What was read from a file, and when.
#[derive(Debug)]
pub struct Cached<T> {
    current: Mutex<(T, Instant)>,
    max_age: Duration,
}

impl<T: Clone> Cached<T> {
    /// A value that was read just now.
    pub fn new(value: T, max_age: Duration) -> Self {
        Self {
            current: Mutex::new((value, Instant::now())),
            max_age,
        }
    }

    /// The value. One that has reached the age is replaced by what `read` returns, or kept for as long
    /// again on None. After an error the next call reads again.
    pub fn get<E>(&self, read: impl FnOnce() -> Result<Option<T>, E>) -> Result<T, E> {
        let mut current = self.current.lock();
        let (value, at) = &mut *current;
        if at.elapsed() >= self.max_age {
            if let Some(new) = read()? {
                *value = new;
            }
            *at = Instant::now();
        }
        Ok(value.clone())
    }
}

#[cfg(test)]
impl<T> Cached<T> {
    /// Lets the value reach the age.
    pub(crate) fn age(&self) {
        self.current.lock().1 -= self.max_age;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_value_is_read_again_at_its_age_and_after_an_error_at_once() {
        const AGE: Duration = Duration::from_mins(1);
        let cached = Cached::new(1, AGE);
        let get = |read: Result<Option<i32>, &'static str>| cached.get(|| read);
        assert_eq!(get(Err("it is fresh")), Ok(1));
        tokio::time::advance(AGE).await;
        assert_eq!(get(Err("unreadable")), Err("unreadable"));
        assert_eq!(get(Ok(Some(2))), Ok(2));
        assert_eq!(get(Ok(Some(3))), Ok(2));
        tokio::time::advance(AGE).await;
        assert_eq!(get(Ok(None)), Ok(2));
        assert_eq!(get(Ok(Some(3))), Ok(2), "kept for as long again");
        tokio::time::advance(AGE).await;
        assert_eq!(get(Ok(Some(3))), Ok(3));
    }
}
