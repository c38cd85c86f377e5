"""Don't lose the kernel: shared models, and thresholds that are watched where there is no notebook."""
