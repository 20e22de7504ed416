//! flashfleet updates the firmware of many devices at once over SMP and proves that it booted.
