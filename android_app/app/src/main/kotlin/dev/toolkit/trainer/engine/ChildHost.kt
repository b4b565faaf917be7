package dev.toolkit.trainer.engine

import dev.toolkit.trainer.R
import dev.toolkit.trainer.Words
import java.io.BufferedReader
import java.io.File
import java.io.IOException
import java.util.concurrent.TimeUnit
import java.util.concurrent.atomic.AtomicReference
import org.json.JSONObject

/**
 * The engine as a program of its own in the app's library folder, with the loader and the libraries it was built with
 * (tools/android/engine.py). It ends when its standard input does, so also with an app that is killed.
 */
class ChildHost(private val folder: File) : EngineHost {
    override val isChild get() = true

    override fun info(): JSONObject {
        val process = start("info")
        val text = process.inputStream.bufferedReader().use { it.readText() }
        val code = process.waitFor()
        if (code != 0) throw ended(code)
        return JSONObject(text)
    }

    override fun dryRun(options: Map<String, String>, begun: (() -> Unit) -> Unit): JSONObject {
        check(options)
        val here = AutoCloseable {}
        if (!opened.compareAndSet(null, here)) throw failure(Words.of(R.string.engine_second))
        try {
            val words = listOf("dry-run", "--lifeline") + options.map { "--${it.key}=${it.value}" }
            return answer(start(*words.toTypedArray(), complaints = true), begun)
        } finally {
            release(here)
        }
    }

    /** The last line, for others may complain; where it failed, the last complaint. */
    private fun answer(process: Process, begun: (() -> Unit) -> Unit): JSONObject {
        try {
            begun { process.destroyForcibly() }
            val text = process.inputStream.bufferedReader().use { it.readText() }.trim()
            val code = process.waitFor()
            if (code == 0) return JSONObject(text.substringAfterLast('\n'))
            throw if (COMPLAINT in text) failure(text.substringAfterLast(COMPLAINT), code) else ended(code)
        } catch (_: IOException) {
            throw ended(process.waitFor())
        } finally {
            process.destroyForcibly()
        }
    }

    override fun open(options: Map<String, String>): Trainer {
        check(options)
        val run = ChildRun()
        if (!opened.compareAndSet(null, run)) throw failure(Words.of(R.string.engine_second))
        try {
            run.begin(start("train", "--driven"), options)
        } catch (error: Throwable) {
            run.close()
            throw error
        }
        return run
    }

    override fun generator(options: Map<String, String>): Generator {
        check(options)
        val model = ChildGenerator()
        if (!opened.compareAndSet(null, model)) throw failure(Words.of(R.string.engine_second))
        try {
            val words = options.map { "--${it.key}=${it.value}" }
            model.begin(start("generate", *words.toTypedArray(), complaints = true))
        } catch (error: Throwable) {
            // Whatever it was: what stayed open would keep every run from opening.
            model.close()
            throw error
        }
        return model
    }

    private fun check(options: Map<String, String>) =
        require(options.none { entry -> (entry.key + entry.value).any { it == '\n' || it == '\u0000' } }) { "a line break in an option" }

    /** With [complaints] what it says of errors comes among its answers. */
    private fun start(vararg words: String, complaints: Boolean = false): Process {
        val loader = loader(folder) ?: throw failure(Words.of(R.string.engine_gone, folder.path))
        val command = listOf(loader.path, "--library-path", folder.path, File(folder, PROGRAM).path) + words
        val builder = ProcessBuilder(command)
        if (complaints) builder.redirectErrorStream(true) else builder.redirectError(File("/dev/null"))
        // Android's own libraries and preloads are not for it.
        builder.environment().clear()
        try {
            return builder.start()
        } catch (error: IOException) {
            throw failure(Words.of(R.string.engine_not_started, error.message.orEmpty()))
        }
    }

    companion object {
        private const val PROGRAM = "libtrainer.so"
        private const val COMPLAINT = "error: "

        /** The run or model that is open, one at a time: two need too much memory. */
        private val opened = AtomicReference<AutoCloseable?>()

        /** Whether an APK's library folder has the engine. */
        fun isIn(folder: File): Boolean = File(folder, PROGRAM).isFile && loader(folder) != null

        private fun loader(folder: File): File? =
            folder.listFiles().orEmpty().firstOrNull { it.name.startsWith("libld-") && it.name.endsWith(".so") }

        internal fun release(run: AutoCloseable) {
            opened.compareAndSet(run, null)
        }

        internal fun failure(words: String, status: Int = 1) = EngineException(words.toByteArray(), status)

        /** Codes above 128 are signals, as a shell has them. */
        internal fun ended(code: Int) = failure(
            when (code - SIGNAL) {
                9 -> Words.of(R.string.engine_killed)
                31 -> Words.of(R.string.engine_refused_call)
                in 1..64 -> Words.of(R.string.engine_signal, code - SIGNAL)
                else -> Words.of(R.string.engine_code, code)
            },
            if (code == EngineException.KILLED) code else 1,
        )

        private const val SIGNAL = 128
    }
}

/** A run in a child process. One thread steps; the others only write lines to it. */
private class ChildRun : Trainer {
    private lateinit var process: Process
    private lateinit var answers: BufferedReader

    @Volatile private var closed = false

    @Volatile private var over = false

    @Volatile private var latest: Progress? = null

    fun begin(started: Process, options: Map<String, String>) {
        process = started
        answers = started.inputStream.bufferedReader()
        say(options.map { "option ${it.key} ${it.value}" } + "open")
        latest = answer()
    }

    override fun step(full: (Boolean) -> Unit): Boolean = synchronized(answers) {
        if (closed) throw ChildHost.failure(closedWords)
        if (over) return false
        say(listOf("step"))
        val now = answer(full)
        latest = now
        over = !now.running
        now.running
    }

    override fun requestStop() = say(listOf("stop"))

    override fun note(event: String, detail: String) = say(listOf("note $event ${detail.replace('\n', ' ')}"))

    override fun progress(): Progress = latest.takeUnless { closed } ?: throw ChildHost.failure(closedWords)

    override fun close() {
        if (closed) return
        closed = true
        try {
            if (!::process.isInitialized) return
            runCatching { process.outputStream.close() }
            if (!process.waitFor(PATIENCE_SECONDS, TimeUnit.SECONDS)) process.destroyForcibly().waitFor()
        } finally {
            ChildHost.release(this)
        }
    }

    /** What is said to one that has ended is lost; its next answer tells. */
    private fun say(lines: List<String>) {
        if (closed || over) return
        val text = lines.joinToString("") { "$it\n" }.toByteArray()
        try {
            synchronized(process) {
                process.outputStream.write(text)
                process.outputStream.flush()
            }
        } catch (_: IOException) {
            return
        }
    }

    private fun answer(full: (Boolean) -> Unit = {}): Progress {
        var line = line()
        while (line != null && line.startsWith(WAITING)) {
            full(line.length > WAITING.length)
            line = line()
        }
        val words = line?.split(' ').orEmpty()
        return when {
            words.size == FIELDS && words[0] == "progress" -> progress(words)
            words.size > 2 && words[0] == "failed" -> throw ChildHost.failure(words.drop(2).joinToString(" "), words[1].toIntOrNull() ?: 1)
            closed -> throw ChildHost.failure(closedWords)
            else -> throw ChildHost.ended(process.waitFor())
        }
    }

    private fun line(): String? = try {
        answers.readLine()
    } catch (_: IOException) {
        null
    }

    private fun progress(words: List<String>) = Progress(
        step = words[1].toLong(),
        steps = words[2].toLong(),
        tokens = words[3].toLong(),
        loss = number(words[4]),
        learningRate = number(words[5]),
        gradientNorm = number(words[6]),
        seconds = number(words[7]),
        peakKib = words[8].toLong(),
        running = words[9] == "1",
        stopped = words[10] == "1",
    )

    /** C writes nan and inf. */
    private fun number(word: String): Double = word.toDoubleOrNull() ?: if ("inf" in word) Double.POSITIVE_INFINITY else Double.NaN

    private companion object {
        val closedWords get() = Words.of(R.string.engine_closed)
        const val FIELDS = 11
        const val WAITING = "waiting "
        const val PATIENCE_SECONDS = 5L
    }
}
