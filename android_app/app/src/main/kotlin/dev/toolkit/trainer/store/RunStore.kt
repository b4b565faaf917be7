package dev.toolkit.trainer.store

import dev.toolkit.trainer.R
import dev.toolkit.trainer.Words
import java.io.File
import org.json.JSONArray
import org.json.JSONException
import org.json.JSONObject

private const val RECORD_LIMIT = 1L shl 20
private const val ADAPTER = "adapter_model.safetensors"
private const val TRACE = "trace.jsonl"
private const val RECORD = "run.json"
private const val STATE = "state.bin"
private const val RESERVE = "reserve"

/** More than a record takes with the most reasons that it keeps. */
private const val RESERVE_BYTES = 16 shl 10

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
    /** Whether the engine ever opened it. */
    val begun: Boolean = false,
    /** What came of it, once it is over. */
    val outcome: Outcome? = null,
    /** The step whose adapter the user went back to; 0: the best one, or the last. */
    val chosen: Long = 0,
    /** What it learned from, as it was when the run was made; also after the data was deleted. */
    val learned: Learned? = null,
) {
    // The generated one would name every field, also in the APK.
    override fun toString() = name

    val trace: File get() = File(folder, TRACE)
    val adapter: File get() = File(folder, ADAPTER)

    /** When it was last started, ended or saved, in milliseconds of the clock. */
    val touched: Long get() = maxOf(File(folder, RECORD).lastModified(), File(folder, STATE).lastModified())

    /** The adapter that the user went back to, else that of the lowest held-out loss, where one is kept, else that of the last save. */
    val best: File get() = versions.find { it.step == chosen && chosen > 0 }?.file ?: kept("best").maxByOrNull { it.file.lastModified() }?.file ?: adapter

    /** The adapters that are kept, by step; of two of one step the best one. */
    val versions: List<Version> get() = (kept("best").map { it.copy(isBest = true) } + kept("checkpoints")).distinctBy { it.step }.sortedBy { it.step }

    private fun kept(place: String) = File(folder, place).listFiles().orEmpty().mapNotNull { save ->
        val step = save.name.removePrefix("step-").toLongOrNull()
        File(save, ADAPTER).takeIf { step != null && it.isFile }?.let { Version(step!!, it) }
    }
}

/** An adapter of a run as it was at a step. */
data class Version(val step: Long, val file: File, val isBest: Boolean = false)

/** How much text a run learned from. */
data class Learned(val documents: Int, val tokens: Long) {
    fun json(): JSONObject = JSONObject().put("documents", documents).put("tokens", tokens)

    companion object {
        fun of(json: JSONObject) = Learned(json.optInt("documents"), json.optLong("tokens"))
    }
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
        val checked = Names.check(name, R.string.what_run)
        return find(checked) ?: throw AppException(Words.of(R.string.no_such_run, checked))
    }

    fun traceOf(name: String) = File(File(folders.runs, name), TRACE)

    fun exists(name: String): Boolean = File(folders.runs, name).exists()

    /** @throws AppException the name is taken or the storage is full */
    fun create(name: String, bundle: Bundle, data: DataSet, settings: RunSettings): Run {
        val folder = File(folders.runs, Names.check(name, R.string.what_run))
        if (folder.exists()) throw AppException(Words.of(R.string.run_exists, name), field = "name")
        if (data.sequenceLength !in bundle.sequenceLengths) {
            throw AppException(
                Words.of(R.string.data_length, data.name, data.sequenceLength, bundle.name, bundle.sequenceLengths.joinToString()),
            )
        }
        settings.check()
        if (!folder.mkdirs()) throw AppException(Words.of(R.string.run_no_folder))
        val run = Run(name, folder, bundle.name, data.name, settings, RunState.PAUSED, "", System.currentTimeMillis(), learned = Learned(data.documents, data.tokens))
        try {
            save(run)
        } catch (error: AppException) {
            folder.deleteTree()
            throw error
        }
        return run
    }

    /** Has a run that is over go on for as many steps again, whatever the held-out text says; another one stays as it is. */
    @Synchronized
    fun prolong(name: String): Run {
        val run = require(name)
        // A second tap comes when the first one has been heard.
        if (run.state != RunState.COMPLETED) return run
        val longer = run.settings.copy(steps = (2L * run.settings.steps).coerceAtMost(10_000_000).toInt(), patience = 0).fitted()
        return save(run.copy(settings = longer.check(), state = RunState.PAUSED, reason = "", outcome = null, chosen = 0))
    }

    /** Has what a run hands out be the adapter of an earlier save; 0: the best one, or the last. */
    fun choose(name: String, step: Long): Run = save(require(name).copy(chosen = step))

    /**
     * Gives a run that nobody holds another name.
     *
     * @throws AppException the new name cannot be one, or is taken
     */
    fun rename(name: String, to: String): Run {
        val run = require(name)
        val target = File(folders.runs, Names.check(to, R.string.what_run))
        if (target.exists()) throw AppException(Words.of(R.string.run_exists, to), field = "name")
        if (!run.folder.renameTo(target)) throw AppException(Words.of(R.string.run_not_renamed))
        return require(to)
    }

    fun save(run: Run): Run {
        val json = JSONObject().put("version", 1).put("bundle", run.bundle).put("data", run.data)
            .put("settings", run.settings.json()).put("state", run.state.name.lowercase())
            .put("reason", run.reason).put("created", run.created).put("step", run.step)
            .put("untold", JSONArray(run.untold.takeLast(MOST_UNTOLD))).put("peak_mb", run.peakMb).put("attempts", run.attempts)
            .put("outcome", run.outcome?.json() ?: JSONObject.NULL).put("chosen", run.chosen)
            .put("learned", run.learned?.json() ?: JSONObject.NULL)
        write(run.folder, (json.toString(1) + "\n").toByteArray())
        return run
    }

    /** Storage that is full must not keep what a run is from being known: room is kept for that. */
    private fun write(folder: File, record: ByteArray) {
        val reserve = File(folder, RESERVE)
        try {
            try {
                File(folder, RECORD).writeAtomically { it.write(record) }
            } catch (error: AppException) {
                if (!reserve.delete()) throw error
                File(folder, RECORD).writeAtomically { it.write(record) }
            }
        } finally {
            keepRoom(reserve)
        }
    }

    private fun keepRoom(reserve: File) {
        if (reserve.exists()) return
        try {
            reserve.writeAtomically { it.write(ByteArray(RESERVE_BYTES)) }
        } catch (_: AppException) {
            // There may be room at the next save.
        }
    }

    fun delete(name: String) {
        val folder = File(folders.runs, Names.check(name, R.string.what_run))
        if (folder.isInside(folders.runs)) folder.deleteTree()
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
                outcome = json.optJSONObject("outcome")?.let(Outcome::of),
                chosen = json.optLong("chosen"),
                learned = json.optJSONObject("learned")?.let(Learned::of),
                begun = File(folder, TRACE).exists(),
            )
        } catch (_: JSONException) {
            null
        } catch (_: IllegalArgumentException) {
            null
        }

    private companion object {
        const val MOST_UNTOLD = 20
    }
}
