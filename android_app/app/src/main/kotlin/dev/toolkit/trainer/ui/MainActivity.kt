package dev.toolkit.trainer.ui

import android.Manifest
import android.app.AlertDialog
import android.content.Intent
import android.content.pm.PackageManager
import android.os.Build
import android.os.Bundle
import android.view.Menu
import android.view.MenuItem
import android.view.View
import android.view.ViewGroup
import android.widget.ImageButton
import android.widget.TextView
import dev.toolkit.trainer.R
import dev.toolkit.trainer.engine.Engine
import dev.toolkit.trainer.service.Refusal
import dev.toolkit.trainer.service.Throttle
import dev.toolkit.trainer.store.Bundle as ModelBundle
import dev.toolkit.trainer.store.Run
import dev.toolkit.trainer.store.TraceReader
import dev.toolkit.trainer.store.TraceStep

/** The first screen: runs and bundles. */
class MainActivity : Screen() {
    private class Listing(
        val runs: List<Run>, val damaged: List<String>, val last: Map<String, TraceStep?>, val bundles: List<ModelBundle>,
    )

    private val throttle = Throttle(REFRESH_MILLISECONDS, ::refresh)
    private val onChange: () -> Unit = throttle::request
    private val readers = HashMap<String, TraceReader>()

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        show(R.layout.activity_main, getString(R.string.app_name), up = false)
        requireViewById<View>(R.id.no_engine).visible(!Engine.available)
        requireViewById<View>(R.id.new_run).setOnClickListener { startActivity(Intent(this, NewRunActivity::class.java)) }
        requireViewById<View>(R.id.train_on_text).setOnClickListener { startActivity(Intent(this, TextActivity::class.java)) }
        requireViewById<View>(R.id.refusal_dismiss).setOnClickListener { app.controller.dismissRefusal() }
        askForNotifications()
    }

    override fun onStart() {
        super.onStart()
        app.controller.addListener(onChange)
        refresh()
    }

    override fun onStop() {
        app.controller.removeListener(onChange)
        throttle.cancel()
        super.onStop()
    }

    override fun onCreateOptionsMenu(menu: Menu): Boolean {
        menuInflater.inflate(R.menu.main, menu)
        return true
    }

    override fun onOptionsItemSelected(item: MenuItem): Boolean {
        if (item.itemId != R.id.settings) return super.onOptionsItemSelected(item)
        startActivity(Intent(this, SettingsActivity::class.java))
        return true
    }

    private fun refresh() = inBackground(::read, ::display)

    private fun read(): Listing {
        val runs = app.runs.list()
        readers.keys.retainAll(runs.map { it.name }.toSet())
        val last = runs.associate { run -> run.name to readers.getOrPut(run.name) { TraceReader(run.trace, TRACE_TAIL) }.read().lastStep }
        return Listing(runs, app.runs.damaged(), last, app.bundles.list())
    }

    private fun display(listing: Listing) {
        val active = app.controller.active
        showRefusal(app.controller.refusal)
        requireViewById<View>(R.id.no_runs).visible(listing.runs.isEmpty())
        requireViewById<View>(R.id.no_bundles).visible(listing.bundles.isEmpty())
        fill(R.id.runs, R.layout.item_run, listing.runs) { view, run ->
            RunCard(view).show(run, active?.takeIf { it.name == run.name }, listing.last[run.name])
            view.setOnClickListener { startActivity(RunActivity.intent(this, run.name)) }
        }
        fill(R.id.damaged, R.layout.item_kept, listing.damaged, ::showDamaged)
        fill(R.id.bundles, R.layout.item_bundle, listing.bundles) { view, bundle ->
            showBundle(view, bundle, listing)
        }
    }

    private fun showRefusal(refusal: Refusal?) {
        requireViewById<View>(R.id.refusal).visible(refusal != null)
        if (refusal == null) return
        text(R.id.refusal_title).text = when {
            refusal.fromComputer -> getString(R.string.refused_computer)
            refusal.run != null -> getString(R.string.refused_named, refusal.run)
            else -> getString(R.string.refused)
        }
        text(R.id.refusal_reason).text = refusal.reason
    }

    private fun showDamaged(view: View, name: String) {
        view.requireViewById<TextView>(R.id.kept_name).text = name
        view.requireViewById<TextView>(R.id.kept_details).setText(R.string.run_damaged)
        view.requireViewById<ImageButton>(R.id.delete).apply {
            contentDescription = getString(R.string.delete_damaged, name)
            setOnClickListener { askToDelete(name) }
        }
    }

    private fun askToDelete(damaged: String) {
        AlertDialog.Builder(this).setMessage(getString(R.string.delete_damaged_question, damaged))
            .setNegativeButton(R.string.cancel, null)
            .setPositiveButton(R.string.delete) { _, _ -> inBackground({ app.runs.delete(damaged) }) { refresh() } }
            .show()
    }

    private fun showBundle(view: View, bundle: ModelBundle, listing: Listing) {
        view.requireViewById<TextView>(R.id.name).text = bundle.model
        val usable = bundle.problem == null
        view.requireViewById<TextView>(R.id.details).message(
            if (!usable) bundle.name
            else getString(R.string.bundle_details, bundle.name, Numbers.bytes(bundle.bytes), bundle.layers),
        )
        val lengths = bundle.sequenceLengths.joinToString()
        view.requireViewById<TextView>(R.id.adapter).message(
            if (usable) getString(R.string.bundle_adapter, bundle.rank, bundle.targets.size, lengths) else null,
        )
        val last = listing.runs.firstOrNull { it.bundle == bundle.name && listing.last[it.name] != null }
        view.requireViewById<TextView>(R.id.loss).message(
            last?.let { getString(R.string.bundle_last_loss, Numbers.loss(listing.last[it.name]?.loss), it.name) },
        )
        view.requireViewById<TextView>(R.id.problem).message(bundle.problem)
        view.isEnabled = usable
        view.setOnClickListener { startActivity(NewRunActivity.intent(this, bundle.name, null)) }
        view.isClickable = usable
    }

    /** Reuses the rows that are there, so that a refresh neither flickers nor takes the focus away. */
    private fun <T> fill(container: Int, layout: Int, items: List<T>, show: (View, T) -> Unit) {
        val rows = requireViewById<ViewGroup>(container)
        while (rows.childCount > items.size) rows.removeViewAt(rows.childCount - 1)
        while (rows.childCount < items.size) layoutInflater.inflate(layout, rows)
        items.forEachIndexed { index, item -> show(rows.getChildAt(index), item) }
    }

    private fun askForNotifications() {
        if (Build.VERSION.SDK_INT < Build.VERSION_CODES.TIRAMISU || !Engine.available) return
        val permission = Manifest.permission.POST_NOTIFICATIONS
        val preferences = getSharedPreferences("screen", MODE_PRIVATE)
        if (checkSelfPermission(permission) == PackageManager.PERMISSION_GRANTED || preferences.getBoolean("asked", false)) return
        preferences.edit().putBoolean("asked", true).apply()
        requestPermissions(arrayOf(permission), 1)
    }

    private companion object {
        // The list needs a run's last step only; a step with all its phases takes some 40 KB.
        const val TRACE_TAIL = 1L shl 20
    }
}
