package dev.toolkit.trainer.engine

import org.json.JSONObject

/** The engine in the app's own process, libtoolkit_jni.so. */
internal class NativeHost : EngineHost {
    override val isChild get() = false

    override fun info() = JSONObject(String(NativeTrainer.info(), Charsets.UTF_8))

    override fun dryRun(options: Map<String, String>, begun: (() -> Unit) -> Unit) =
        JSONObject(String(NativeTrainer.dryRun(packed(options)), Charsets.UTF_8))

    override fun open(options: Map<String, String>): Trainer = NativeRun(NativeTrainer.create(packed(options)))

    override fun generator(options: Map<String, String>): Generator = NativeModel(NativeGenerator.open(packed(options)))

    companion object {
        /** As the bridge takes options: name NUL value NUL name NUL value. */
        fun packed(options: Map<String, String>): ByteArray {
            require(options.none { '\u0000' in it.key || '\u0000' in it.value }) { "NUL in an option" }
            return options.flatMap { listOf(it.key, it.value) }.joinToString("\u0000").toByteArray()
        }
    }
}

private class NativeRun(private val number: Long) : Trainer {
    override fun step(full: (Boolean) -> Unit): Boolean = NativeTrainer.step(number) { cause -> full(cause.isNotEmpty()) }

    override fun requestStop() = NativeTrainer.requestStop(number)

    override fun note(event: String, detail: String) = NativeTrainer.note(number, event.toByteArray(), detail.toByteArray())

    override fun progress(): Progress {
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
}
