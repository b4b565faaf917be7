package dev.toolkit.trainer.engine

import org.json.JSONObject
import java.io.BufferedReader
import java.io.File
import java.io.IOException
import java.util.concurrent.TimeUnit
import java.util.concurrent.atomic.AtomicReference

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

    override fun open(options: Map<String, String>): Trainer {
        require(options.none { entry -> (entry.key + entry.value).any { it == '\n' || it == '\u0000' } }) { "a line break in an option" }
        val run = ChildRun()
        if (!opened.compareAndSet(null, run)) throw failure("another run is open in this app. Stop it first")
        try {
            run.begin(start("train", "--driven"), options)
        } catch (error: EngineException) {
            run.close()
            throw error
        }
        return run
    }

    private fun start(vararg words: String): Process {
        val loader = loader(folder) ?: throw failure("the engine is gone from $folder. Install the app again")
        val command = listOf(loader.path, "--library-path", folder.path, File(folder, PROGRAM).path) + words
        val builder = ProcessBuilder(command).redirectError(File("/dev/null"))
        // Android's own libraries and preloads are not for it.
        builder.environment().clear()
        try {
            return builder.start()
        } catch (error: IOException) {
            throw failure("the engine cannot be started: ${error.message}")
        }
    }

    companion object {
        private const val PROGRAM = "libtrainer.so"

        /** The run that is open in this process, one at a time: two need too much memory. */
        private val opened = AtomicReference<Trainer?>()

        /** Whether an APK's library folder has the engine. */
        fun isIn(folder: File): Boolean = File(folder, PROGRAM).isFile && loader(folder) != null

        private fun loader(folder: File): File? =
            folder.listFiles().orEmpty().firstOrNull { it.name.startsWith("libld-") && it.name.endsWith(".so") }

        internal fun release(run: Trainer) {
            opened.compareAndSet(run, null)
        }

        internal fun failure(words: String, status: Int = 1) = EngineException(words.toByteArray(), status)

        /** Codes above 128 are signals, as a shell has them. */
        internal fun ended(code: Int) = failure(
            when (code - SIGNAL) {
                9 -> "the system ended the engine, most likely for want of memory. Close other apps, or use a smaller model"
                31 -> "the system does not allow the engine a call it needs. Report this with the phone's Android version"
                in 1..64 -> "the engine ended by signal ${code - SIGNAL}. Continue the run; report this if it happens again"
                else -> "the engine ended with code $code. Continue the run; report this if it happens again"
            },
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

    override fun step(): Boolean = synchronized(answers) {
        if (closed) throw ChildHost.failure(CLOSED)
        if (over) return false
        say(listOf("step"))
        val now = answer()
        latest = now
        over = !now.running
        now.running
    }

    override fun requestStop() = say(listOf("stop"))

    override fun note(event: String, detail: String) = say(listOf("note $event ${detail.replace('\n', ' ')}"))

    override fun progress(): Progress = latest.takeUnless { closed } ?: throw ChildHost.failure(CLOSED)

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

    private fun answer(): Progress {
        val line = try {
            answers.readLine()
        } catch (_: IOException) {
            null
        }
        val words = line?.split(' ').orEmpty()
        return when {
            words.size == FIELDS && words[0] == "progress" -> progress(words)
            words.size > 2 && words[0] == "failed" -> throw ChildHost.failure(words.drop(2).joinToString(" "), words[1].toIntOrNull() ?: 1)
            closed -> throw ChildHost.failure(CLOSED)
            else -> throw ChildHost.ended(process.waitFor())
        }
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
        const val CLOSED = "this run is closed. Open it again"
        const val FIELDS = 11
        const val PATIENCE_SECONDS = 5L
    }
}
