//! The limit on open descriptors. It is that of a process, so this test has one of its own.

use std::fs::File;
use std::mem::MaybeUninit;

#[test]
fn the_soft_limit_is_raised_to_the_hard_one() {
    let hard = limit().rlim_max;
    assert!(hard > 64, "{hard} descriptors are too few for this test");
    let low = libc::rlimit {
        rlim_cur: 64,
        rlim_max: hard,
    };
    // SAFETY: setrlimit(2) reads `low`.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &low) }, 0);
    let open = |_| File::open("/dev/null");
    let files: Vec<_> = (0..64).map_while(|at| open(at).ok()).collect();
    assert!(files.len() < 64, "the low limit is in force");

    assert_eq!(sys::raise_descriptor_limit().unwrap(), hard);

    assert_eq!(limit().rlim_cur, hard);
    assert_eq!(limit().rlim_max, hard);
    open(0).expect("there is room for another file");
    assert_eq!(sys::raise_descriptor_limit().unwrap(), hard);
}

fn limit() -> libc::rlimit {
    let mut limit = MaybeUninit::uninit();
    // SAFETY: getrlimit(2) writes the limit, and has to succeed before it is read.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, limit.as_mut_ptr()), 0);
        limit.assume_init()
    }
}
