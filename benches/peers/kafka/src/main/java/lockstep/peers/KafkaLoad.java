package lockstep.peers;

import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.Semaphore;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;
import java.util.concurrent.locks.LockSupport;
import org.HdrHistogram.ConcurrentHistogram;
import org.HdrHistogram.Histogram;
import org.HdrHistogram.HistogramIterationValue;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * The loads of `lockstep bench` on Kafka's own client: the same sends, the same clock, the same figures.
 *
 * <p>With a rate the loop is open and a latency counts from when the record was due; without one it is closed and
 * counts from the send. What was in flight at the end is waited for. Prints one line of JSON.
 */
public final class KafkaLoad {
    private static final int STAMP_BYTES = 16;
    private static final short REPLICAS = 3;

    private final Map<String, String> options;
    private final String brokers;
    private final String topic;
    private final int partitions;
    private final int connections;
    private final int recordBytes;
    private final double rate;
    private final int inFlight;
    private final long warmUpNs;
    private final long durationNs;
    private final long tag = new Random().nextLong();
    private final byte[] filler;

    private volatile long origin;
    private volatile long end;
    private final Figures acknowledged = new Figures();
    private final Figures delivered = new Figures();
    private final Figures read = new Figures();
    private final AtomicLong sent = new AtomicLong();
    private final AtomicReference<Throwable> failure = new AtomicReference<>();

    private KafkaLoad(Map<String, String> options) {
        this.options = options;
        brokers = options.get("brokers");
        topic = options.get("topic");
        partitions = number("partitions", 1);
        connections = number("connections", 1);
        recordBytes = number("size", 1024);
        rate = Double.parseDouble(options.getOrDefault("rate", "0"));
        inFlight = number("in-flight", 32768);
        warmUpNs = (long) (Double.parseDouble(options.getOrDefault("warm-up", "2")) * 1e9);
        durationNs = (long) (Double.parseDouble(options.getOrDefault("duration", "10")) * 1e9);
        filler = new byte[recordBytes];
        new Random(1).nextBytes(filler);
    }

    public static void main(String[] arguments) throws Exception {
        Map<String, String> options = new HashMap<>();
        for (int at = 1; at + 1 < arguments.length; at += 2) {
            options.put(arguments[at].substring(2), arguments[at + 1]);
        }
        KafkaLoad load = new KafkaLoad(options);
        load.createTopic();
        switch (arguments[0]) {
            case "produce" -> load.produce(false);
            case "end-to-end" -> load.produce(true);
            case "consume" -> load.consume();
            default -> throw new IllegalArgumentException("no such load: " + arguments[0]);
        }
        System.out.println(load.json());
        System.exit(0);
    }

    private int number(String name, int otherwise) {
        return Integer.parseInt(options.getOrDefault(name, Integer.toString(otherwise)));
    }

    private void createTopic() throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", brokers))) {
            admin.createTopics(List.of(new NewTopic(topic, partitions, REPLICAS))).all().get();
        }
    }

    /** Acknowledged by all in-sync replicas, idempotent; the rest as the case asks, or the client's defaults. */
    private KafkaProducer<byte[], byte[]> producer() {
        Map<String, Object> config = new HashMap<>();
        config.put("bootstrap.servers", brokers);
        config.put("acks", "all");
        config.put("batch.size", number("batch-bytes", 1 << 20));
        config.put("linger.ms", number("linger", 0));
        config.put("max.request.size", 8 << 20);
        config.put("buffer.memory", 64L << 20);
        return new KafkaProducer<>(config, new ByteArraySerializer(), new ByteArraySerializer());
    }

    private KafkaConsumer<byte[], byte[]> consumer() {
        Map<String, Object> config = new HashMap<>();
        config.put("bootstrap.servers", brokers);
        config.put("max.poll.records", 100_000);
        config.put("max.partition.fetch.bytes", 8 << 20);
        config.put("receive.buffer.bytes", -1);
        config.put("enable.auto.commit", false);
        var consumer = new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer());
        List<TopicPartition> all = new ArrayList<>();
        for (int partition = 0; partition < partitions; partition++) {
            all.add(new TopicPartition(topic, partition));
        }
        consumer.assign(all);
        return consumer;
    }

    private long now() {
        return System.nanoTime() - origin;
    }

    private boolean measures(long at) {
        return at >= warmUpNs && at < end;
    }

    private void start() {
        end = warmUpNs + durationNs;
        origin = System.nanoTime() + 20_000_000;
    }

    private void produce(boolean subscribe) throws Exception {
        List<KafkaProducer<byte[], byte[]>> producers = new ArrayList<>();
        for (int connection = 0; connection < connections; connection++) {
            producers.add(producer());
            producers.get(connection).partitionsFor(topic);
        }
        ExecutorService threads = Executors.newCachedThreadPool();
        AtomicLong all = new AtomicLong(-1);
        CountDownLatch ready = new CountDownLatch(subscribe ? 1 : 0);
        Future<?> subscriber = subscribe ? threads.submit(() -> subscribe(all, ready)) : null;
        ready.await();
        start();
        List<Future<?>> senders = new ArrayList<>();
        for (int connection = 0; connection < connections; connection++) {
            int number = connection;
            KafkaProducer<byte[], byte[]> producer = producers.get(connection);
            Callable<Void> sender = () -> rate > 0 ? sendWhenDue(number, producer) : sendWhenAnswered(number, producer);
            senders.add(threads.submit(sender));
        }
        for (Future<?> sender : senders) {
            sender.get();
        }
        producers.forEach(KafkaProducer::flush);
        if (failure.get() != null) {
            throw new IllegalStateException("a record was not stored", failure.get());
        }
        all.set(sent.get());
        if (subscriber != null) {
            subscriber.get();
        }
        producers.forEach(producer -> producer.close(Duration.ofSeconds(5)));
    }

    private Void sendWhenDue(int connection, KafkaProducer<byte[], byte[]> producer) {
        double spacing = 1e9 / rate;
        for (long send = 0; failure.get() == null; send++) {
            long due = (long) (spacing * (connection + (double) send * connections));
            if (due >= end) {
                return null;
            }
            for (long wait = due - now(); wait > 0; wait = due - now()) {
                LockSupport.parkNanos(wait);
            }
            send(producer, connection, send, due, null);
        }
        return null;
    }

    private Void sendWhenAnswered(int connection, KafkaProducer<byte[], byte[]> producer) throws Exception {
        Semaphore places = new Semaphore(inFlight);
        for (long send = 0; failure.get() == null; send++) {
            places.acquire();
            long now = now();
            if (now >= end) {
                return null;
            }
            send(producer, connection, send, now, places);
        }
        return null;
    }

    private void send(
            KafkaProducer<byte[], byte[]> producer, int connection, long send, long began, Semaphore places) {
        int partition = (int) ((connection + send * connections) % partitions);
        byte[] value = filler.clone();
        if (value.length >= STAMP_BYTES) {
            ByteBuffer.wrap(value).putLong(tag).putLong(began);
        }
        sent.incrementAndGet();
        producer.send(new ProducerRecord<>(topic, partition, null, value), (stored, error) -> {
            if (error != null) {
                failure.compareAndSet(null, error);
            } else {
                acknowledged.add(began, now(), 1);
            }
            if (places != null) {
                places.release();
            }
        });
    }

    /** As `lockstep bench` counts: all records of a poll that lie in one batch count from their own stamps. */
    private void subscribe(AtomicLong all, CountDownLatch ready) {
        try (KafkaConsumer<byte[], byte[]> consumer = consumer()) {
            consumer.seekToEnd(consumer.assignment());
            consumer.assignment().forEach(consumer::position);
            ready.countDown();
            long seen = 0;
            long patience = Long.MAX_VALUE;
            while (all.get() < 0 || seen < all.get()) {
                ConsumerRecords<byte[], byte[]> records = consumer.poll(Duration.ofMillis(100));
                long now = now();
                for (ConsumerRecord<byte[], byte[]> record : records) {
                    ByteBuffer value = ByteBuffer.wrap(record.value());
                    if (value.getLong() == tag) {
                        delivered.add(value.getLong(), now, 1);
                        seen++;
                    }
                }
                if (all.get() >= 0 && patience == Long.MAX_VALUE) {
                    patience = now + 30_000_000_000L;
                }
                if (now > patience) {
                    throw new IllegalStateException("a subscriber got " + seen + " of " + all.get() + " records");
                }
            }
        }
    }

    private void consume() throws Exception {
        long records = Long.parseLong(options.getOrDefault("fill", "256")) * 1_000_000 / recordBytes;
        try (KafkaProducer<byte[], byte[]> producer = producer()) {
            for (long record = 0; record < records; record++) {
                producer.send(new ProducerRecord<>(topic, (int) (record % partitions), null, filler));
            }
            producer.flush();
        }
        start();
        List<Future<?>> readers = new ArrayList<>();
        ExecutorService threads = Executors.newCachedThreadPool();
        for (int reader = 0; reader < number("readers", 1); reader++) {
            readers.add(threads.submit(() -> readAgainAndAgain(records)));
        }
        for (Future<?> reader : readers) {
            reader.get();
        }
    }

    private void readAgainAndAgain(long records) {
        try (KafkaConsumer<byte[], byte[]> consumer = consumer()) {
            while (true) {
                consumer.seekToBeginning(consumer.assignment());
                for (long seen = 0; seen < records; ) {
                    long asked = now();
                    if (asked >= end) {
                        return;
                    }
                    int count = consumer.poll(Duration.ofMillis(100)).count();
                    if (count > 0) {
                        read.add(asked, now(), count);
                        seen += count;
                    }
                }
            }
        }
    }

    private String json() {
        List<String> series = new ArrayList<>();
        for (var named : Arrays.asList(Map.entry("acknowledged", acknowledged), Map.entry("delivered", delivered),
                Map.entry("read", read))) {
            if (named.getValue().latencies.getTotalCount() > 0) {
                series.add("\"" + named.getKey() + "\":" + named.getValue().json());
            }
        }
        return "{" + String.join(",", series) + "}";
    }

    /** Latencies of what began in the measured time, and a count of what ended in it. */
    private final class Figures {
        private final Histogram latencies = new ConcurrentHistogram(1, 3_600_000_000L, 3);
        private final AtomicLong records = new AtomicLong();

        void add(long began, long ended, long count) {
            if (measures(began)) {
                long microseconds = Math.max(1, (ended - began + 999) / 1000);
                latencies.recordValueWithCount(Math.min(microseconds, 3_600_000_000L), count);
            }
            if (measures(ended)) {
                records.addAndGet(count);
            }
        }

        String json() {
            StringBuilder text = new StringBuilder();
            double seconds = durationNs / 1e9;
            text.append(String.format("{\"records\":%d,\"bytes\":%d,\"seconds\":%f,\"histogram_us\":[", records.get(),
                    records.get() * recordBytes, seconds));
            String comma = "";
            for (HistogramIterationValue step : latencies.recordedValues()) {
                text.append(comma).append('[').append(step.getValueIteratedTo()).append(',')
                        .append(step.getCountAtValueIteratedTo()).append(']');
                comma = ",";
            }
            return text.append("]}").toString();
        }
    }
}
