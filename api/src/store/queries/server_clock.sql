-- server_clock
SELECT clock_timestamp()
