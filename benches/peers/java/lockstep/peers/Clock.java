package lockstep.peers;

/** Nanoseconds since the load began: first those that do not count, then those that are measured. */
final class Clock {
    private static final long BEGINS_IN_NS = 20_000_000;
    private static final long NS_IN_MS = 1_000_000;

    private final long warmUpNs;
    private final long durationNs;
    private volatile long origin;
    private volatile long originUnixMs;
    private volatile long end;

    Clock(double warmUpSeconds, double durationSeconds) {
        warmUpNs = (long) (warmUpSeconds * 1e9);
        durationNs = (long) (durationSeconds * 1e9);
    }

    void start() {
        end = warmUpNs + durationNs;
        origin = System.nanoTime() + BEGINS_IN_NS;
        originUnixMs = System.currentTimeMillis() + BEGINS_IN_NS / NS_IN_MS;
    }

    long now() {
        return System.nanoTime() - origin;
    }

    boolean isOver(long at) {
        return at >= end;
    }

    long leftNs() {
        return Math.max(0, end - now());
    }

    boolean measures(long at) {
        return at >= warmUpNs && at < end;
    }

    /** By the wall clock, so that others can tell what the brokers used meanwhile. */
    long measuredFromUnixMs() {
        return originUnixMs + warmUpNs / NS_IN_MS;
    }

    long measuredToUnixMs() {
        return originUnixMs + (warmUpNs + durationNs) / NS_IN_MS;
    }

    double measuredSeconds() {
        return durationNs / 1e9;
    }
}
