package lockstep.peers;

import java.util.concurrent.atomic.AtomicLong;
import org.HdrHistogram.ConcurrentHistogram;
import org.HdrHistogram.Histogram;
import org.HdrHistogram.HistogramIterationValue;

/** Latencies of what began in the measured time, and a count of what ended in it. */
final class Figures {
    private static final long LONGEST_US = 3_600_000_000L;

    private final Clock clock;
    private final Histogram latencies = new ConcurrentHistogram(1, LONGEST_US, 3);
    private final AtomicLong records = new AtomicLong();

    Figures(Clock clock) {
        this.clock = clock;
    }

    /** So many records took from one moment to another, in nanoseconds of the clock. */
    void add(long began, long ended, long count) {
        if (clock.measures(began)) {
            long microseconds = Math.max(1, (ended - began + 999) / 1000);
            latencies.recordValueWithCount(Math.min(microseconds, LONGEST_US), count);
        }
        if (clock.measures(ended)) {
            records.addAndGet(count);
        }
    }

    boolean isEmpty() {
        return latencies.getTotalCount() == 0;
    }

    String json(int recordBytes) {
        StringBuilder text = new StringBuilder();
        text.append(String.format("{\"records\":%d,\"bytes\":%d,\"seconds\":%f,\"histogram_us\":[", records.get(),
                records.get() * recordBytes, clock.measuredSeconds()));
        String comma = "";
        for (HistogramIterationValue step : latencies.recordedValues()) {
            text.append(comma).append('[').append(step.getValueIteratedTo()).append(',')
                    .append(step.getCountAtValueIteratedTo()).append(']');
            comma = ",";
        }
        return text.append("]}").toString();
    }
}
