package lockstep.peers;

import java.math.BigInteger;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;
import java.util.concurrent.locks.LockSupport;
import java.util.function.BooleanSupplier;

/**
 * The loads of `lockstep bench` on a peer's own client: the same sends, the same clock, the same figures.
 *
 * <p>With a rate the loop is open and a latency counts from when the record was due; without one it is closed and
 * counts from the send. What was in flight at the end is waited for. Prints one line of JSON.
 */
abstract class Load {
    private static final int STAMP_BYTES = 16;
    /** How long anything may take that ought to be over. */
    protected static final long PATIENCE_NS = 30_000_000_000L;

    private final Map<String, String> options;
    protected final String brokers;
    protected final String topic;
    protected final int partitions;
    protected final int recordBytes;
    private final int connections;
    private final double rate;
    private final int inFlight;
    private final long tag = new Random().nextLong();
    private final byte[] filler;

    protected final Clock clock;
    private final Figures acknowledged;
    private final Figures delivered;
    private final Figures read;
    private final AtomicLong sent = new AtomicLong();
    private final AtomicLong answered = new AtomicLong();
    private final AtomicReference<Throwable> failure = new AtomicReference<>();

    /** One connection that sends. */
    interface Sender extends AutoCloseable {
        /** Sends a record; `done` hears once it is stored, or why it is not. */
        void send(int partition, byte[] value, Done done) throws Exception;

        /** Sends what waits for more. */
        default void flush() {}
    }

    /** Hears what became of a record. */
    interface Done {
        /** It is stored, if there is no error. */
        void heard(Throwable error);
    }

    /** Takes records that arrive together. */
    interface Taker {
        /** One record. */
        void take(byte[] value);
    }

    /** Takes records that were stored together and arrive together, of one subscriber of many. */
    interface BatchTaker {
        /** The first of them, and how many there are. */
        void take(ByteBuffer first, long records);
    }

    Load(Map<String, String> options) {
        this.options = options;
        brokers = options.get("brokers");
        topic = options.get("topic");
        partitions = number("partitions", 1);
        connections = number("connections", 1);
        recordBytes = number("size", 1024);
        rate = Double.parseDouble(options.getOrDefault("rate", "0"));
        inFlight = number("in-flight", 32768);
        clock = new Clock(Double.parseDouble(options.getOrDefault("warm-up", "2")),
                Double.parseDouble(options.getOrDefault("duration", "10")));
        acknowledged = new Figures(clock);
        delivered = new Figures(clock);
        read = new Figures(clock);
        filler = new byte[recordBytes];
        new Random(1).nextBytes(filler);
    }

    /** The options behind the load's name: names with two dashes, each with a value. */
    static Map<String, String> options(String[] arguments) {
        Map<String, String> options = new HashMap<>();
        for (int at = 1; at + 1 < arguments.length; at += 2) {
            options.put(arguments[at].substring(2), arguments[at + 1]);
        }
        return options;
    }

    protected final int number(String name, int otherwise) {
        return Integer.parseInt(options.getOrDefault(name, Integer.toString(otherwise)));
    }

    /** Makes the topic, with all its partitions on three brokers. */
    abstract void createTopic() throws Exception;

    /** Removes it again: the next case is not to run on top of what this one left. */
    abstract void deleteTopic() throws Exception;

    /** A connection that is ready to send. */
    abstract Sender sender() throws Exception;

    /** Subscribes to what comes from now on, says that it is ready, and hands records over until it is over. */
    abstract void subscribe(CountDownLatch ready, Taker taker, BooleanSupplier isOver) throws Exception;

    /** The same for many subscribers to the first partition, all together on a thin client; or not at all. */
    void drain(int subscribers, CountDownLatch ready, BatchTaker taker, BooleanSupplier isOver) throws Exception {
        throw new UnsupportedOperationException("there is no thin client for it");
    }

    /** Reads everything from the beginning, again and again, until the time is over. `records` are there. */
    abstract void readAgainAndAgain(long records) throws Exception;

    /** Of all partitions, those that one sender sends to: its turns come round to the same ones again. */
    protected final int partitionsOfSender() {
        return partitions / BigInteger.valueOf(partitions).gcd(BigInteger.valueOf(connections)).intValue();
    }

    /** So many records came for one question, or one delivery, that took so long. */
    protected final void wereRead(long began, long ended, long count) {
        read.add(began, ended, count);
    }

    /** Does what is asked for, prints the figures, and ends the process. */
    final void run(String load) {
        try {
            createTopic();
            switch (load) {
                case "produce" -> produce(null);
                case "end-to-end" -> produce(new Subscriber(1));
                case "fan-out" -> produce(new Subscriber(number("subscribers", 100)));
                case "consume" -> consume();
                default -> throw new IllegalArgumentException("no such load: " + load);
            }
            deleteTopic();
        } catch (Exception error) {
            error.printStackTrace();
            System.exit(1);
        }
        System.out.println(json());
        System.exit(0);
    }

    private void produce(Subscriber subscriber) throws Exception {
        List<Sender> senders = new ArrayList<>();
        for (int connection = 0; connection < connections; connection++) {
            senders.add(sender());
        }
        ExecutorService threads = Executors.newCachedThreadPool();
        Future<?> subscription = subscriber == null ? null : threads.submit(subscriber);
        if (subscription != null) {
            while (!subscriber.ready.await(1, TimeUnit.SECONDS)) {
                if (subscription.isDone()) {
                    subscription.get();
                }
            }
        }
        clock.start();
        List<Future<?>> sending = new ArrayList<>();
        for (int connection = 0; connection < connections; connection++) {
            int number = connection;
            Sender sender = senders.get(connection);
            Callable<Void> loop = () -> rate > 0 ? sendWhenDue(number, sender) : sendWhenAnswered(number, sender);
            sending.add(threads.submit(loop));
        }
        for (Future<?> one : sending) {
            one.get();
        }
        senders.forEach(Sender::flush);
        waitUntilAllAnswered();
        if (subscription != null) {
            subscriber.all.set(sent.get());
            subscription.get();
        }
        for (Sender sender : senders) {
            sender.close();
        }
    }

    private void waitUntilAllAnswered() throws Exception {
        long deadline = System.nanoTime() + PATIENCE_NS;
        while (answered.get() < sent.get() && failure.get() == null) {
            if (System.nanoTime() > deadline) {
                throw new IllegalStateException(answered.get() + " of " + sent.get() + " records were answered");
            }
            Thread.sleep(1);
        }
        if (failure.get() != null) {
            throw new IllegalStateException("a record was not stored", failure.get());
        }
    }

    private Void sendWhenDue(int connection, Sender sender) throws Exception {
        double spacing = 1e9 / rate;
        for (long send = 0; failure.get() == null; send++) {
            long due = (long) (spacing * (connection + (double) send * connections));
            if (clock.isOver(due)) {
                return null;
            }
            for (long wait = due - clock.now(); wait > 0; wait = due - clock.now()) {
                LockSupport.parkNanos(wait);
            }
            send(sender, connection, send, due, null);
        }
        return null;
    }

    private Void sendWhenAnswered(int connection, Sender sender) throws Exception {
        Semaphore places = new Semaphore(inFlight);
        for (long send = 0; failure.get() == null; send++) {
            places.acquire();
            long now = clock.now();
            if (clock.isOver(now)) {
                return null;
            }
            send(sender, connection, send, now, places);
        }
        return null;
    }

    private void send(Sender sender, int connection, long send, long began, Semaphore places) throws Exception {
        int partition = (int) ((connection + send * connections) % partitions);
        byte[] value = filler.clone();
        if (value.length >= STAMP_BYTES) {
            ByteBuffer.wrap(value).putLong(tag).putLong(began);
        }
        sent.incrementAndGet();
        sender.send(partition, value, error -> {
            if (error != null) {
                failure.compareAndSet(null, error);
            } else {
                acknowledged.add(began, clock.now(), 1);
            }
            answered.incrementAndGet();
            if (places != null) {
                places.release();
            }
        });
    }

    /**
     * As `lockstep bench` counts: each record from its own stamp. Of many subscribers, those of a batch from its first one's,
     * as it does too.
     */
    private final class Subscriber implements Callable<Void> {
        private final int count;
        private final CountDownLatch ready = new CountDownLatch(1);
        private final AtomicLong all = new AtomicLong(-1);
        private final AtomicLong seen = new AtomicLong();
        private long patience = Long.MAX_VALUE;

        Subscriber(int count) {
            this.count = count;
        }

        @Override
        public Void call() throws Exception {
            if (count == 1) {
                subscribe(ready, value -> take(ByteBuffer.wrap(value), 1), this::isOver);
            } else {
                drain(count, ready, this::take, this::isOver);
            }
            if (seen.get() < all.get() * count) {
                throw new IllegalStateException(count + " subscribers got " + seen + " times one of " + all + " records");
            }
            return null;
        }

        private void take(ByteBuffer first, long records) {
            if (first.getLong() == tag) {
                delivered.add(first.getLong(), clock.now(), records);
                seen.addAndGet(records);
            }
        }

        private boolean isOver() {
            if (all.get() < 0) {
                return false;
            }
            if (patience == Long.MAX_VALUE) {
                patience = clock.now() + PATIENCE_NS;
            }
            return seen.get() >= all.get() * count || clock.now() > patience;
        }
    }

    private void consume() throws Exception {
        long records = Long.parseLong(options.getOrDefault("fill", "256")) * 1_000_000 / recordBytes;
        try (Sender sender = sender()) {
            for (long record = 0; record < records && failure.get() == null; record++) {
                sent.incrementAndGet();
                sender.send((int) (record % partitions), filler, error -> {
                    failure.compareAndSet(null, error);
                    answered.incrementAndGet();
                });
            }
            sender.flush();
            waitUntilAllAnswered();
        }
        clock.start();
        ExecutorService threads = Executors.newCachedThreadPool();
        List<Future<?>> readers = new ArrayList<>();
        for (int reader = 0; reader < number("readers", 1); reader++) {
            Callable<Void> loop = () -> {
                readAgainAndAgain(records);
                return null;
            };
            readers.add(threads.submit(loop));
        }
        for (Future<?> reader : readers) {
            reader.get();
        }
    }

    private String json() {
        Map<String, Figures> named = new LinkedHashMap<>();
        named.put("acknowledged", acknowledged);
        named.put("delivered", delivered);
        named.put("read", read);
        List<String> series = new ArrayList<>();
        named.forEach((name, figures) -> {
            if (!figures.isEmpty()) {
                series.add("\"" + name + "\":" + figures.json(recordBytes));
            }
        });
        series.add("\"measured_from_unix_ms\":" + clock.measuredFromUnixMs());
        series.add("\"measured_to_unix_ms\":" + clock.measuredToUnixMs());
        return "{" + String.join(",", series) + "}";
    }
}
