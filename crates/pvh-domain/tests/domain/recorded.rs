//! With the feature `trace`, what each test does to its domain is recorded (its beginning, where
//! it does much), and played again when the test is over.

use pvh_domain::{Config, Now};
use pvh_memory::VecMemory;

#[cfg(not(feature = "trace"))]
pub(crate) use pvh_domain::Domain;
#[cfg(feature = "trace")]
pub(crate) use traced::Domain;

#[cfg(not(feature = "trace"))]
pub(crate) fn domain(config: Config, memory: &VecMemory, now: Now) -> Domain {
    Domain::new(config, memory, now).unwrap()
}

#[cfg(feature = "trace")]
pub(crate) fn domain(config: Config, memory: &VecMemory, now: Now) -> Domain {
    Domain::new(config, memory, now)
}

#[cfg(feature = "trace")]
mod traced {
    use core::ops::{Deref, DerefMut};
    use std::{
        io::{self, Write},
        sync::{Arc, Mutex},
    };

    use pvh_domain::{RecordError, Recorder, replay};

    use super::{Config, Now, VecMemory};

    pub(crate) struct Domain {
        domain: pvh_domain::Domain,
        recorder: Recorder,
        trace: Sink,
    }

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Domain {
        pub(super) fn new(config: Config, memory: &VecMemory, now: Now) -> Self {
            let trace = Sink::default();
            let recorder = Recorder::new(Box::new(trace.clone()), 256 << 10).unwrap();
            let domain = pvh_domain::Domain::recorded(config, memory, now, Some(recorder.clone()));
            Self {
                domain: domain.unwrap(),
                recorder,
                trace,
            }
        }
    }

    impl Drop for Domain {
        fn drop(&mut self) {
            if std::thread::panicking() {
                return;
            }
            let replayed = replay(&self.trace.0.lock().unwrap()[..]).unwrap();
            match self.recorder.finish() {
                Ok(recorded) => assert_eq!(replayed.records, recorded.records),
                Err(ended) => assert!(matches!(ended, RecordError::TooLong { .. }), "{ended}"),
            }
        }
    }

    impl Deref for Domain {
        type Target = pvh_domain::Domain;

        fn deref(&self) -> &pvh_domain::Domain {
            &self.domain
        }
    }

    impl DerefMut for Domain {
        fn deref_mut(&mut self) -> &mut pvh_domain::Domain {
            &mut self.domain
        }
    }
}
