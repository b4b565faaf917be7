package dev.toolkit.trainer.service

import android.content.Intent
import dev.toolkit.trainer.R
import dev.toolkit.trainer.Words
import dev.toolkit.trainer.engine.Engine
import dev.toolkit.trainer.store.AppException
import dev.toolkit.trainer.store.BundleStore
import dev.toolkit.trainer.store.DataStore
import dev.toolkit.trainer.store.Names
import dev.toolkit.trainer.store.Run
import dev.toolkit.trainer.store.RunSettings
import dev.toolkit.trainer.store.RunStore
import org.json.JSONObject

/**
 * Turns an intent of the adb shell into a run. Everything in it is checked: things are named, never given by
 * path, and a value that the engine would refuse is refused here.
 */
class Automation(
    private val runs: RunStore,
    private val bundles: BundleStore,
    private val data: DataStore,
) {
    /**
     * Creates the run that an intent describes, or returns the one to continue.
     *
     * @throws AppException with words for the person at the desk
     */
    fun prepare(intent: Intent): Run {
        if (!Engine.available) throw AppException(Words.of(R.string.no_engine_short))
        val name = Names.check(text(intent, "run"), R.string.what_run)
        val existing = runs.find(name)
        if (intent.hasExtra("resume") && text(intent, "resume") == "true") {
            return existing ?: throw AppException(Words.of(R.string.no_such_run, name))
        }
        if (existing != null) throw AppException(Words.of(R.string.run_exists_desk, name))
        val bundle = bundles.require(text(intent, "bundle"))
        return runs.create(name, bundle, data.require(text(intent, "data")), settings(intent))
    }

    private fun settings(intent: Intent): RunSettings {
        val usual = RunSettings(steps = number(intent, "steps", null) { it.toIntOrNull() })
        return RunSettings(
            steps = usual.steps,
            learningRate = number(intent, "lr", usual.learningRate) { text -> text.toDoubleOrNull()?.takeIf { it.isFinite() } },
            optimizer = text(intent, "optimizer") ?: usual.optimizer,
            gradientAccumulation = number(intent, "grad-accum", usual.gradientAccumulation) { it.toIntOrNull() },
            schedule = text(intent, "schedule") ?: usual.schedule,
            warmupSteps = number(intent, "warmup-steps", usual.warmupSteps) { it.toIntOrNull() },
            seed = number(intent, "seed", usual.seed) { it.toLongOrNull() },
            order = text(intent, "order") ?: usual.order,
            arithmetic = text(intent, "arithmetic") ?: usual.arithmetic,
            saveEvery = text(intent, "save-every")?.let { number(intent, "save-every", null) { value -> value.toIntOrNull() } },
            threads = number(intent, "threads", usual.threads) { it.toIntOrNull() },
            trace = text(intent, "trace") ?: usual.trace,
        ).check()
    }

    private fun <T : Any> number(intent: Intent, name: String, usual: T?, parse: (String) -> T?): T {
        val text = text(intent, name) ?: return usual ?: throw AppException(Words.of(R.string.option_missing, name))
        return parse(text) ?: throw AppException(Words.of(R.string.option_no_number, name, text.take(40)))
    }

    private fun text(intent: Intent, name: String): String? {
        val value = intent.getStringExtra(name) ?: return null
        if (value.length > MAX_LENGTH) throw AppException(Words.of(R.string.option_too_long, name))
        return value
    }

    companion object {
        private const val MAX_LENGTH = 200

        /** The answer that the desk reads from the log: one line of JSON. */
        fun answer(request: String, error: String?, run: String?, file: String?): String =
            JSONObject().put("request", request).put("ok", error == null).put("error", error ?: JSONObject.NULL)
                .put("run", run ?: JSONObject.NULL).put("file", file ?: JSONObject.NULL).toString()
    }
}
