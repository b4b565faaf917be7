package dev.toolkit.trainer.store

import org.json.JSONArray
import org.json.JSONException
import org.json.JSONObject
import java.io.File

private const val RECORD_LIMIT = 1L shl 20

/** What a run does or why it does nothing. */
enum class RunState {
    /** Training now, or killed while it did: then nobody holds it. */
    RUNNING,

    /** Held back by the policy; goes on by itself. */
    WAITING,

    /** Held by the user, everything saved. */
    PAUSED,

    /** Ended early by the user, everything saved. */
    STOPPED,
    COMPLETED,
    FAILED,
}

/** Settings of a run, the trainer's options under its names; null leaves the engine's default. */
data class RunSettings(
    val steps: Int,
    val learningRate: Double = 1e-4,
    val optimizer: String = "adamw",
    val gradientAccumulation: Int = 1,
    val schedule: String = "constant",
    val warmupSteps: Int = 0,
    val seed: Long = 0,
    val order: String = "shuffled",
    /** Steps between saves; null leaves it to the engine, which saves by time, too, and spares the flash. */
    val saveEvery: Int? = null,
    val threads: Int = 0,
    /** Phases and samples of every step, or steps only: the first takes about 40 KB of storage a step. */
    val trace: String = if (steps <= 1000) "full" else "steps",
) {
    fun options(): Map<String, String> = listOfNotNull(
        "steps" to steps.toString(),
        "lr" to learningRate.toString(),
        "optimizer" to optimizer,
        "grad-accum" to gradientAccumulation.toString(),
        "schedule" to schedule,
        "warmup-steps" to warmupSteps.toString(),
        "seed" to seed.toString(),
        "order" to order,
        saveEvery?.let { "save-every" to it.toString() },
        "trace" to trace,
    ).toMap()

    /** @throws AppException a value that the engine would refuse */
    fun check(): RunSettings {
        fun need(valid: Boolean, what: String) {
            if (!valid) throw AppException(what)
        }
        need(steps in 1..10_000_000, "Steps must be a whole number from 1 to 10,000,000.")
        need(learningRate > 0 && learningRate <= 1, "The learning rate must be above 0 and at most 1.")
        need(gradientAccumulation in 1..10_000, "Sequences per step must be from 1 to 10,000.")
        need(optimizer in OPTIMIZERS, "The optimizer must be one of ${OPTIMIZERS.joinToString()}.")
        need(schedule in SCHEDULES, "The schedule must be one of ${SCHEDULES.joinToString()}.")
        need(order in ORDERS, "The order must be one of ${ORDERS.joinToString()}.")
        need(warmupSteps in 0..steps, "Warm-up steps must be from 0 to the number of steps.")
        need(saveEvery == null || saveEvery in 0..1_000_000, "Steps between saves must be from 0 to 1,000,000.")
        need(trace in TRACES, "The trace must be one of ${TRACES.joinToString()}.")
        need(threads in 0..256, "Threads must be from 0 (automatic) to 256.")
        need(seed >= 0, "The seed must not be negative.")
        return this
    }

    fun json(): JSONObject = JSONObject(options() as Map<*, *>).put("threads", threads)

    companion object {
        val OPTIMIZERS = listOf(
            "adamw", "adamw-8bit", "apollo", "apollo-mini", "mlorc", "lion", "adalomo", "lomo", "sgd",
        )
        val SCHEDULES = listOf("constant", "linear", "cosine")
        val TRACES = listOf("full", "steps")
        val ORDERS = listOf("shuffled", "sequential")

        fun of(json: JSONObject) = RunSettings(
            steps = json.getInt("steps"),
            learningRate = json.getDouble("lr"),
            optimizer = json.getString("optimizer"),
            gradientAccumulation = json.getInt("grad-accum"),
            schedule = json.getString("schedule"),
            warmupSteps = json.getInt("warmup-steps"),
            seed = json.getLong("seed"),
            order = json.getString("order"),
            saveEvery = if (json.has("save-every")) json.getInt("save-every") else null,
            threads = json.optInt("threads"),
            trace = json.optString("trace", "steps"),
        )
    }
}

/** A run as run.json keeps it; the numbers are in its trace. */
data class Run(
    val name: String,
    val folder: File,
    val bundle: String,
    val data: String,
    val settings: RunSettings,
    val state: RunState,
    /** Why it waits or failed. */
    val reason: String = "",
    val created: Long = 0,
    val step: Long = 0,
    /** Reasons of pauses that the trace gets when the engine opens it next. */
    val untold: List<String> = emptyList(),
    /** Megabytes that its engine took at most; 0 until known. */
    val peakMb: Long = 0,
    /** How often it was continued by itself after its process had died, without anything new saved. */
    val attempts: Int = 0,
) {
    val trace: File get() = File(folder, "trace.jsonl")
    val adapter: File get() = File(folder, "adapter_model.safetensors")
}

/** The runs of this app, each a folder with run.json beside what the trainer writes. */
class RunStore(private val folders: AppFolders) {
    fun list(): List<Run> = folders.runs.listFiles().orEmpty()
        .filter { it.isDirectory && Names.isValid(it.name) }.mapNotNull(::read).sortedByDescending { it.created }

    /** Folders that hold a name and storage but no run that can be read, as a kill or a full storage may leave them. */
    fun damaged(): List<String> = folders.runs.listFiles().orEmpty()
        .filter { it.isDirectory && Names.isValid(it.name) && read(it) == null }.map { it.name }.sorted()

    fun find(name: String): Run? = File(folders.runs, name).takeIf { Names.isValid(name) && it.isDirectory }?.let(::read)

    /** @throws AppException there is no such run */
    fun require(name: String?): Run {
        val checked = Names.check(name, "run")
        return find(checked) ?: throw AppException("There is no run “$checked” in this app.")
    }

    fun exists(name: String): Boolean = File(folders.runs, name).exists()

    /** @throws AppException the name is taken or the storage is full */
    fun create(name: String, bundle: Bundle, data: DataSet, settings: RunSettings): Run {
        val folder = File(folders.runs, Names.check(name, "run"))
        if (folder.exists()) throw AppException("There is a run “$name” already. Choose another name.")
        if (data.sequenceLength !in bundle.sequenceLengths) {
            throw AppException(
                "Data set “${data.name}” has ${data.sequenceLength} tokens per sequence, bundle “${bundle.name}” takes " +
                    "${bundle.sequenceLengths.joinToString()}. Make the data for this bundle.",
            )
        }
        settings.check()
        if (!folder.mkdirs()) throw AppException("The folder of the run cannot be made. Free some space and try again.")
        val run = Run(name, folder, bundle.name, data.name, settings, RunState.PAUSED, "", System.currentTimeMillis())
        try {
            save(run)
        } catch (error: AppException) {
            folder.deleteRecursively()
            throw error
        }
        return run
    }

    fun save(run: Run): Run {
        val json = JSONObject().put("version", 1).put("bundle", run.bundle).put("data", run.data)
            .put("settings", run.settings.json()).put("state", run.state.name.lowercase())
            .put("reason", run.reason).put("created", run.created).put("step", run.step)
            .put("untold", JSONArray(run.untold.takeLast(MOST_UNTOLD))).put("peak_mb", run.peakMb).put("attempts", run.attempts)
        File(run.folder, RECORD).writeAtomically { it.write((json.toString(1) + "\n").toByteArray()) }
        return run
    }

    fun delete(name: String) {
        val folder = File(folders.runs, Names.check(name, "run"))
        if (folder.isInside(folders.runs)) folder.deleteRecursively()
    }

    private fun read(folder: File): Run? =
        try {
            val json = JSONObject(File(folder, RECORD).readTextUpTo(RECORD_LIMIT) ?: "{}")
            Run(
                name = folder.name,
                folder = folder,
                bundle = json.getString("bundle"),
                data = json.getString("data"),
                settings = RunSettings.of(json.getJSONObject("settings")),
                state = RunState.valueOf(json.getString("state").uppercase()),
                reason = json.optString("reason"),
                created = json.optLong("created"),
                step = json.optLong("step"),
                untold = json.optJSONArray("untold")?.let { list -> List(list.length()) { list.getString(it) } }.orEmpty(),
                peakMb = json.optLong("peak_mb"),
                attempts = json.optInt("attempts"),
            )
        } catch (_: JSONException) {
            null
        } catch (_: IllegalArgumentException) {
            null
        }

    private companion object {
        const val RECORD = "run.json"
        const val MOST_UNTOLD = 20
    }
}
