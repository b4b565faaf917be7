package dev.toolkit.trainer.engine

/** State of a run after its last step; memory in KiB, loss as mean over the labelled tokens. */
data class Progress(
    val step: Long,
    val steps: Long,
    val tokens: Long,
    val loss: Double,
    val learningRate: Double,
    val gradientNorm: Double,
    val seconds: Double,
    val peakKib: Long,
    val running: Boolean,
    val stopped: Boolean,
)

/**
 * One open run of the engine. Every function may be called from any thread, also after [close].
 *
 * @param options names of `trainer train --help` without dashes
 * @throws EngineException the run cannot be opened, or another one is open in this process
 */
class Trainer(options: Map<String, String>) : AutoCloseable {
    private val number: Long

    init {
        Engine.require()
        number = NativeTrainer.create(packed(options))
    }

    /** Runs one step; false once the run is over and saved. */
    fun step(): Boolean = NativeTrainer.step(number)

    /** Ends the run at the next step boundary; [step] then saves and returns false. */
    fun requestStop() = NativeTrainer.requestStop(number)

    /** Adds an event to the trace. */
    fun note(event: String, detail: String) =
        NativeTrainer.note(number, event.toByteArray(), detail.toByteArray())

    fun progress(): Progress {
        val values = NativeTrainer.progress(number)
        return Progress(
            step = values[0].toLong(),
            steps = values[1].toLong(),
            tokens = values[2].toLong(),
            loss = values[3],
            learningRate = values[4],
            gradientNorm = values[5],
            seconds = values[6],
            peakKib = values[7].toLong(),
            running = values[8] != 0.0,
            stopped = values[9] != 0.0,
        )
    }

    override fun close() = NativeTrainer.close(number)

    companion object {
        internal fun packed(options: Map<String, String>): ByteArray {
            require(options.none { '\u0000' in it.key || '\u0000' in it.value }) { "NUL in an option" }
            return options.flatMap { listOf(it.key, it.value) }.joinToString("\u0000").toByteArray()
        }
    }
}
