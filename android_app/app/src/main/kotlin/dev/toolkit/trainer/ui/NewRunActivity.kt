package dev.toolkit.trainer.ui

import android.content.Context
import android.content.Intent
import android.os.Bundle
import android.view.View
import android.widget.EditText
import android.widget.Spinner
import dev.toolkit.trainer.R
import dev.toolkit.trainer.engine.Engine
import dev.toolkit.trainer.service.TrainingService
import dev.toolkit.trainer.store.AppException
import dev.toolkit.trainer.store.Bundle as ModelBundle
import dev.toolkit.trainer.store.DataSet
import dev.toolkit.trainer.store.Names
import dev.toolkit.trainer.store.RunSettings

/** Sets up a run and starts it. */
class NewRunActivity : Screen() {
    private var bundles = emptyList<ModelBundle>()
    private var sets = emptyList<DataSet>()
    private var fitting = emptyList<DataSet>()
    private var started = false
    private var wantedBundle: String? = null
    private var wantedData: String? = null

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        wantedBundle = savedInstanceState?.getString(BUNDLE) ?: intent.getStringExtra(BUNDLE)
        wantedData = savedInstanceState?.getString(DATA) ?: intent.getStringExtra(DATA)
        show(R.layout.activity_new_run, getString(R.string.new_run), up = true)
        choice(R.id.optimizer).fill(RunSettings.OPTIMIZERS, 0) {}
        choice(R.id.schedule).fill(RunSettings.SCHEDULES, 0) {}
        if (savedInstanceState == null) {
            field(R.id.steps).setText("200")
            field(R.id.rate).setText(Numbers.rate(1e-4))
            field(R.id.accumulation).setText("4")
        }
        requireViewById<View>(R.id.start).setOnClickListener { start() }
        requireViewById<View>(R.id.write_text).setOnClickListener {
            startActivity(Intent(this, TextActivity::class.java))
            finish()
        }
        inBackground({ app.bundles.list().filter { it.problem == null } to app.data.list() }) { (found, data) ->
            bundles = found
            sets = data
            val asked = found.indexOfFirst { it.name == wantedBundle }
            choice(R.id.bundle).fill(found.map { it.name }, asked) { showData(it) }
            requireViewById<View>(R.id.no_bundles).visible(found.isEmpty())
            requireViewById<View>(R.id.form).visible(found.isNotEmpty())
            showData(asked.coerceAtLeast(0))
            if (!Engine.available) text(R.id.problem).message(getString(R.string.no_engine_title))
        }
    }

    override fun onSaveInstanceState(outState: Bundle) {
        super.onSaveInstanceState(outState)
        outState.putString(BUNDLE, chosenBundle()?.name ?: wantedBundle)
        outState.putString(DATA, chosenData()?.name ?: wantedData)
    }

    private fun chosenBundle() = bundles.getOrNull(choice(R.id.bundle).selectedItemPosition)

    private fun chosenData() = fitting.getOrNull(choice(R.id.data).selectedItemPosition)

    private fun showData(index: Int) {
        val bundle = bundles.getOrNull(index) ?: return
        val before = chosenData()?.name ?: wantedData
        fitting = sets.filter { it.sequenceLength in bundle.sequenceLengths && (it.bundle == null || it.bundle == bundle.name) }
        val labels = fitting.map { getString(R.string.data_choice, it.name, sequences(it.sequences), it.sequenceLength) }
        choice(R.id.data).fill(labels, fitting.indexOfFirst { it.name == before }) {}
        choice(R.id.data).visible(fitting.isNotEmpty())
        requireViewById<View>(R.id.no_data).visible(fitting.isEmpty())
        requireViewById<View>(R.id.start).isEnabled = fitting.isNotEmpty() && Engine.available
        val name = field(R.id.name)
        if (name.text.isEmpty()) name.setText(Names.free("run", app.runs::exists))
    }

    private fun start() {
        if (started) return
        try {
            app.controller.active?.let { throw AppException("Run “${it.name}” is active. Pause it first: two at once need too much memory.") }
            val bundle = chosenBundle() ?: return
            val data = chosenData() ?: return
            val run = app.runs.create(field(R.id.name).text.toString().trim(), bundle, data, settings())
            started = true
            TrainingService.start(this, TrainingService.START, run.name)
            startActivity(RunActivity.intent(this, run.name))
            finish()
        } catch (error: AppException) {
            text(R.id.problem).message(error.message)
            text(R.id.problem).let { it.requestRectangleOnScreen(android.graphics.Rect(0, 0, it.width, it.height)) }
        }
    }

    private fun settings(): RunSettings = RunSettings(
        steps = number(R.id.steps, R.string.steps) { it.toIntOrNull() },
        learningRate = number(R.id.rate, R.string.learning_rate) { text -> text.replace(',', '.').toDoubleOrNull()?.takeIf { it.isFinite() } },
        gradientAccumulation = number(R.id.accumulation, R.string.sequences_per_step) { it.toIntOrNull() },
        optimizer = choice(R.id.optimizer).selectedItem as String,
        schedule = choice(R.id.schedule).selectedItem as String,
    )

    private fun <T> number(field: Int, label: Int, parse: (String) -> T?): T {
        val text = field(field).text.toString().trim()
        return parse(text) ?: throw AppException(getString(R.string.not_a_number, text.take(20), getString(label)))
    }

    private fun field(id: Int): EditText = requireViewById(id)

    private fun choice(id: Int): Spinner = requireViewById(id)

    companion object {
        private const val BUNDLE = "bundle"
        private const val DATA = "data"

        fun intent(context: Context, bundle: String?, data: String?): Intent =
            Intent(context, NewRunActivity::class.java).putExtra(BUNDLE, bundle).putExtra(DATA, data)
    }
}
