//! Memory that a step gives back is kept for the next one.

/// Tells the process's allocator to keep what is freed instead of giving it back to the kernel.
///
/// A step allocates the same maps as the one before it. glibc takes large ones from the kernel and returns them when they are freed, so that every step
/// pays for fresh, zeroed pages: about a tenth of its time. What a process holds stays at the height of its largest step.
pub fn keep() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // No mapping of its own for a large piece; −1: the heap's end is never given back; one heap for all threads, because those of others are given back whole.
        let settings = [(libc::M_MMAP_MAX, 0), (libc::M_TRIM_THRESHOLD, -1), (libc::M_ARENA_MAX, 1)];
        for (setting, value) in settings {
            // SAFETY: changes how later calls of the allocator behave; takes two numbers, and an unknown one is refused.
            #[expect(unsafe_code, reason = "a function of the C library")]
            let known = unsafe { libc::mallopt(setting, value) } == 1;
            tracing::debug!(setting, value, known, "the allocator keeps freed memory");
        }
    }
}
