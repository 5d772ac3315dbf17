package lockstep.peers;

/** Nanoseconds since the load began: first those that do not count, then those that are measured. */
final class Clock {
    private static final long BEGINS_IN_NS = 20_000_000;

    private final long warmUpNs;
    private final long durationNs;
    private volatile long origin;
    private volatile long end;

    Clock(double warmUpSeconds, double durationSeconds) {
        warmUpNs = (long) (warmUpSeconds * 1e9);
        durationNs = (long) (durationSeconds * 1e9);
    }

    void start() {
        end = warmUpNs + durationNs;
        origin = System.nanoTime() + BEGINS_IN_NS;
    }

    long now() {
        return System.nanoTime() - origin;
    }

    boolean isOver(long at) {
        return at >= end;
    }

    boolean measures(long at) {
        return at >= warmUpNs && at < end;
    }

    double measuredSeconds() {
        return durationNs / 1e9;
    }
}
