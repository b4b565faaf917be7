package dev.toolkit.trainer.ui

import android.content.Context
import android.content.Intent
import android.os.Bundle
import android.view.View
import android.widget.Button
import android.widget.EditText
import android.widget.RadioButton
import android.widget.RadioGroup
import android.widget.Spinner
import dev.toolkit.trainer.R
import dev.toolkit.trainer.engine.Engine
import dev.toolkit.trainer.engine.EngineException
import dev.toolkit.trainer.service.Throttle
import dev.toolkit.trainer.service.TrainingService
import dev.toolkit.trainer.service.Trial
import dev.toolkit.trainer.store.AppException
import dev.toolkit.trainer.store.Bundle as ModelBundle
import dev.toolkit.trainer.store.DataSet
import dev.toolkit.trainer.store.Names
import dev.toolkit.trainer.store.Preset
import dev.toolkit.trainer.store.Presets
import dev.toolkit.trainer.store.RunSettings
import dev.toolkit.trainer.store.titles
import dev.toolkit.trainer.store.TRIAL
import java.io.File

/** Sets up a run and starts it: model, text, how thoroughly; the rest is folded. */
class NewRunActivity : Screen() {
    private var bundles = emptyList<ModelBundle>()
    private var sets = emptyList<DataSet>()
    private var fitting = emptyList<DataSet>()
    private var started = false
    private var freeName = ""
    private var wantedBundle: String? = null
    private var wantedData: String? = null
    private var restored = false

    /** The run that kept this one from starting, as long as that is said. */
    private var blocker: String? = null
    private val estimate by lazy { EstimateBox(this) }
    private val onTried: (String) -> Unit = { problem ->
        text(R.id.problem).message(problem)
        showEstimate()
    }

    /** Steps come many times a second, and change nothing here. */
    private val throttle = Throttle(REFRESH_MILLISECONDS) {
        showEstimate()
        if (blocker != null && blocker != app.controller.active?.name) {
            blocker = null
            text(R.id.problem).message(null)
        }
    }
    private val onRun: () -> Unit = { throttle.request() }

    @Volatile private var engine = false

    @Volatile private var storage = 0L

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        wantedBundle = savedInstanceState?.getString(BUNDLE) ?: intent.getStringExtra(BUNDLE)
        wantedData = savedInstanceState?.getString(DATA) ?: intent.getStringExtra(DATA)
        restored = savedInstanceState != null
        show(R.layout.activity_new_run, getString(R.string.new_run), up = true)
        choice(R.id.optimizer).fill(RunSettings.OPTIMIZERS, 0) {
            showRate()
            showEstimate()
        }
        for (id in listOf(R.id.steps, R.id.accumulation)) field(id).addTextChangedListener(Changed { showEstimate() })
        choice(R.id.schedule).fill(RunSettings.SCHEDULES, RunSettings.SCHEDULES.indexOf("cosine")) {}
        if (savedInstanceState == null) requireViewById<RadioButton>(R.id.normal).isChecked = true
        unfold(savedInstanceState?.getBoolean(EXPERT) ?: false)
        requireViewById<RadioGroup>(R.id.preset).setOnCheckedChangeListener { _, _ -> showPreset() }
        requireViewById<View>(R.id.expert).setOnClickListener { unfold(!requireViewById<View>(R.id.expert_fields).isShown) }
        requireViewById<View>(R.id.measure).setOnClickListener { if (app.trying.running) app.trial?.cancel() else measure() }
        requireViewById<View>(R.id.start).setOnClickListener { start() }
        requireViewById<View>(R.id.write_text).setOnClickListener {
            startActivity(Intent(this, TextActivity::class.java))
            finish()
        }
        app.trying.attach(onTried)
        inBackground({
            engine = Engine.available
            storage = app.folders.own.usableSpace
            freeName = Names.free(getString(R.string.run_name_default), app.runs::exists)
            app.bundles.list().filter { it.problem == null } to app.data.list()
        }) { (found, data) -> loaded(found, data) }
    }

    private fun loaded(found: List<ModelBundle>, data: List<DataSet>) {
        bundles = found
        sets = data
        val asked = found.indexOfFirst { it.name == wantedBundle }
        val titles = found.titles()
        choice(R.id.bundle).fill(found.map { titles.getValue(it.name) }, asked) { showData(it) }
        requireViewById<View>(R.id.no_bundles).visible(found.isEmpty())
        requireViewById<View>(R.id.form).visible(found.isNotEmpty())
        showData(asked.coerceAtLeast(0))
    }

    override fun onStart() {
        super.onStart()
        app.controller.addListener(onRun)
        showEstimate()
    }

    override fun onStop() {
        app.controller.removeListener(onRun)
        throttle.cancel()
        estimate.rest()
        super.onStop()
    }

    override fun onDestroy() {
        app.trying.detach(onTried)
        super.onDestroy()
    }

    override fun onSaveInstanceState(outState: Bundle) {
        super.onSaveInstanceState(outState)
        outState.putString(BUNDLE, chosenBundle()?.name ?: wantedBundle)
        outState.putString(DATA, chosenData()?.name ?: wantedData)
        outState.putBoolean(EXPERT, requireViewById<View>(R.id.expert_fields).visibility == View.VISIBLE)
    }

    private fun chosenBundle() = bundles.getOrNull(choice(R.id.bundle).selectedItemPosition)

    private fun chosenData() = fitting.getOrNull(choice(R.id.data).selectedItemPosition)

    private fun unfold(open: Boolean) {
        requireViewById<View>(R.id.expert_fields).visible(open)
        requireViewById<Button>(R.id.expert).setText(if (open) R.string.expert_close else R.string.expert_open)
    }

    private fun showData(index: Int) {
        val bundle = bundles.getOrNull(index) ?: return
        val before = chosenData()?.name ?: wantedData
        fitting = sets.filter { it.sequenceLength in bundle.sequenceLengths && (it.bundle == null || it.bundle == bundle.name) }
        val labels = fitting.map { getString(R.string.data_choice, it.name, sequences(it.sequences), it.sequenceLength) }
        choice(R.id.data).fill(labels, fitting.indexOfFirst { it.name == before }) { if (!restored) showPreset() }
        choice(R.id.data).visible(fitting.isNotEmpty())
        for (part in listOf(R.id.preset, R.id.estimate_box, R.id.expert)) requireViewById<View>(part).visible(fitting.isNotEmpty())
        requireViewById<View>(R.id.no_data).visible(fitting.isEmpty())
        val why = if (!engine) R.string.no_engine_title else if (fitting.isEmpty()) R.string.data_first else null
        requireViewById<Button>(R.id.start).allow(true, text(R.id.why), why?.let(::getString))
        val name = field(R.id.name)
        if (name.text.isEmpty()) name.setText(freeName)
        // What was typed before the phone was turned stays.
        if (restored) showEstimate() else showPreset()
        restored = false
    }

    private fun preset() = when (requireViewById<RadioGroup>(R.id.preset).checkedRadioButtonId) {
        R.id.light -> Preset.LIGHT
        R.id.thorough -> Preset.THOROUGH
        else -> Preset.NORMAL
    }

    /** Fills the expert's fields from what was chosen. */
    private fun showPreset() {
        val data = chosenData() ?: return
        requireViewById<RadioButton>(R.id.thorough)
            .setText(if (data.hasValidation) R.string.preset_thorough else R.string.preset_thorough_blind)
        val settings = Presets.settings(preset(), data)
        field(R.id.steps).setText(settings.steps.toString())
        field(R.id.rate).setText(Numbers.rate(Presets.rate(choice(R.id.optimizer).selectedItem as String)))
        field(R.id.accumulation).setText(settings.gradientAccumulation.toString())
        showEstimate()
    }

    /** Sets the usual rate of the optimizer, unless another one than that of any was written. */
    private fun showRate() {
        val written = Numbers.plain(field(R.id.rate).text.toString())
        if (RunSettings.OPTIMIZERS.none { Numbers.rate(Presets.rate(it)) == written }) return
        field(R.id.rate).setText(Numbers.rate(Presets.rate(choice(R.id.optimizer).selectedItem as String)))
    }

    private fun showEstimate() {
        val bundle = chosenBundle() ?: return
        val data = chosenData() ?: return
        val settings = runCatching { settings(data).check() }.getOrElse { Presets.settings(preset(), data) }
        estimate.show(settings, data, bundle, engine, storage)
    }

    private fun measure() {
        val bundle = chosenBundle() ?: return
        val data = chosenData() ?: return
        val settings = runCatching { settings(data).check() }.getOrElse { Presets.settings(preset(), data) }
        val shared = app
        val trial = Trial(shared.controller, File(shared.cacheDir, TRIAL), shared.estimates)
        shared.trial = trial
        shared.trying.begin {
            try {
                val threads = shared.policy.read().threads
                trial.measure(bundle, data, settings.copy(threads = threads))
                ""
            } catch (error: AppException) {
                error.message.orEmpty()
            } catch (error: EngineException) {
                error.message.orEmpty().replaceFirstChar(Char::uppercase)
            }
        }
        showEstimate()
    }

    private fun start() {
        if (started) return
        val bundle = chosenBundle() ?: return
        val data = chosenData() ?: return
        val name = field(R.id.name).text.toString().trim()
        try {
            app.controller.active?.let { throw AppException(getString(R.string.run_active, it.name), blocker = it.name) }
            val settings = settings(data)
            started = true
            inBackground({
                try {
                    app.runs.create(name, bundle, data, settings)
                    null
                } catch (error: AppException) {
                    error
                }
            }) { problem -> if (problem == null) begin(name) else refuse(problem) }
        } catch (error: AppException) {
            refuse(error)
        }
    }

    private fun begin(name: String) {
        TrainingService.start(this, TrainingService.START, name)
        startActivity(RunActivity.intent(this, name))
        finish()
    }

    /** Where a field is to blame, it is shown and says so; TalkBack reads it with the field. */
    private fun refuse(problem: AppException) {
        started = false
        blocker = problem.blocker
        val field = FIELDS[problem.field]
        if (field != null) {
            unfold(true)
            field(field).error = problem.message
            field(field).requestFocus()
        }
        text(R.id.problem).message(problem.message)
        if (field == null) text(R.id.problem).let { it.requestRectangleOnScreen(android.graphics.Rect(0, 0, it.width, it.height)) }
    }

    private fun settings(data: DataSet): RunSettings = Presets.settings(preset(), data).copy(
        steps = number(R.id.steps, R.string.steps, "steps") { it.toIntOrNull() },
        learningRate = number(R.id.rate, R.string.learning_rate, "lr") { text -> text.toDoubleOrNull()?.takeIf { it.isFinite() } },
        gradientAccumulation = number(R.id.accumulation, R.string.sequences_per_step, "grad-accum") { it.toIntOrNull() },
        optimizer = choice(R.id.optimizer).selectedItem as String,
        schedule = choice(R.id.schedule).selectedItem as String,
    ).fitted()

    private fun <T> number(field: Int, label: Int, name: String, parse: (String) -> T?): T {
        val text = field(field).text.toString().trim()
        return parse(Numbers.plain(text)) ?: throw AppException(getString(R.string.not_a_number, text.take(20), getString(label)), field = name)
    }

    private fun field(id: Int): EditText = requireViewById(id)

    private fun choice(id: Int): Spinner = requireViewById(id)

    companion object {
        private const val BUNDLE = "bundle"
        private const val DATA = "data"
        private const val EXPERT = "expert"
        private val FIELDS = mapOf("name" to R.id.name, "steps" to R.id.steps, "lr" to R.id.rate, "grad-accum" to R.id.accumulation)

        fun intent(context: Context, bundle: String?, data: String?): Intent =
            Intent(context, NewRunActivity::class.java).putExtra(BUNDLE, bundle).putExtra(DATA, data)
    }
}
