package lockstep.peers;

import com.rabbitmq.stream.Consumer;
import com.rabbitmq.stream.ConsumerFlowStrategy;
import com.rabbitmq.stream.Environment;
import com.rabbitmq.stream.OffsetSpecification;
import com.rabbitmq.stream.Producer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.BooleanSupplier;

/** The loads on RabbitMQ's own client for streams; a partition is a stream, as in its super streams. */
public final class RabbitLoad extends Load {
    private static final int CHUNKS_AHEAD = 10;

    private final Environment environment;

    private RabbitLoad(Map<String, String> options) {
        super(options);
        List<String> uris = Arrays.stream(brokers.split(",")).map(at -> "rabbitmq-stream://" + at).toList();
        // The partitions of one sender share a connection, as far as they are led by one broker.
        environment = Environment.builder().uris(uris).maxProducersByConnection(partitions).build();
    }

    public static void main(String[] arguments) {
        new RabbitLoad(options(arguments)).run(arguments[0]);
    }

    private String stream(int partition) {
        return topic + "-" + partition;
    }

    /** On all nodes of the cluster, as it comes. */
    @Override
    void createTopic() {
        for (int partition = 0; partition < partitions; partition++) {
            environment.streamCreator().stream(stream(partition)).create();
        }
    }

    @Override
    void deleteTopic() {
        for (int partition = 0; partition < partitions; partition++) {
            environment.deleteStream(stream(partition));
        }
    }

    @Override
    Sender sender() {
        List<Producer> producers = new ArrayList<>();
        for (int partition = 0; partition < partitions; partition++) {
            producers.add(environment.producerBuilder()
                    .stream(stream(partition))
                    .batchSize(number("batch", 100))
                    .dynamicBatch(true)
                    .maxUnconfirmedMessages(number("in-flight", 10_000))
                    .build());
        }
        return new Sender() {
            @Override
            public void send(int partition, byte[] value, Done done) {
                Producer producer = producers.get(partition);
                producer.send(producer.messageBuilder().addData(value).build(), status -> done.heard(
                        status.isConfirmed() ? null : new IllegalStateException("code " + status.getCode())));
            }

            @Override
            public void close() {
                producers.forEach(Producer::close);
            }
        };
    }

    /** Consumers of all partitions; what they are given goes to `taker`. */
    private List<Consumer> consumers(OffsetSpecification from, Taker taker) {
        List<Consumer> consumers = new ArrayList<>();
        for (int partition = 0; partition < partitions; partition++) {
            consumers.add(environment.consumerBuilder()
                    .stream(stream(partition))
                    .offset(from)
                    .flow().strategy(ConsumerFlowStrategy.creditOnChunkArrival(CHUNKS_AHEAD)).builder()
                    .messageHandler((context, message) -> taker.take(message.getBodyAsBinary()))
                    .build());
        }
        return consumers;
    }

    @Override
    void subscribe(CountDownLatch ready, Taker taker, BooleanSupplier isOver) throws Exception {
        List<Consumer> consumers = consumers(OffsetSpecification.next(), taker);
        ready.countDown();
        while (!isOver.getAsBoolean()) {
            Thread.sleep(1);
        }
        consumers.forEach(Consumer::close);
    }

    /** It is given records as they come and asks for none: each counts from when the one before was there. */
    @Override
    void readAgainAndAgain(long records) throws Exception {
        while (!clock.isOver(clock.now())) {
            CountDownLatch all = new CountDownLatch(1);
            AtomicLong seen = new AtomicLong();
            AtomicLong last = new AtomicLong(clock.now());
            List<Consumer> consumers = consumers(OffsetSpecification.first(), value -> {
                long now = clock.now();
                wereRead(last.getAndSet(now), now, 1);
                if (seen.incrementAndGet() == records || clock.isOver(now)) {
                    all.countDown();
                }
            });
            boolean came = all.await(PATIENCE_NS + clock.leftNs(), TimeUnit.NANOSECONDS);
            consumers.forEach(Consumer::close);
            if (!came) {
                throw new IllegalStateException("only " + seen + " of " + records + " records could be read");
            }
        }
    }
}
