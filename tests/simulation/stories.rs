//! Named regressions: what the simulation found, each as its own small story or seed.
